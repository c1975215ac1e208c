package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

const (
	newsEvery   = 30 * time.Millisecond  // at most so often
	lookEvery   = 500 * time.Millisecond // at the conversation that is shown
	aliveEvery  = 10 * time.Second       // something is sent, so that a dead connection is noticed
	askWithin   = 2 * time.Second
	answerBytes = 4 << 20
	historyMost = "60" // records that are shown
)

// Overall is what the page shows beside the phones.
type Overall struct {
	Node     Status            `json:"node"`
	Now      time.Time         `json:"now"`       // on the phones and in the node
	OffsetMS int64             `json:"offset_ms"` // of that, from the system's clock
	Troubles metatest.Troubles `json:"troubles"`
	Waiting  int               `json:"waiting"` // of what users did, not acknowledged yet
	Phones   []string          `json:"phones"`  // their ids, in order
}

// Inside is what the node has of the conversation of a phone.
type Inside struct {
	ID           string          `json:"id"`
	Conversation json.RawMessage `json:"conversation"` // console.Conversation
	DeadLetters  json.RawMessage `json:"dead_letters"` // a list of console.DeadLetter
}

// events streams what changes: everything at first, then each phone, the rest, and the
// inside of the phone that watch names, whenever they do. The events are overall, phone
// and inside.
func (s *Stage) events(token string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		news, leave := s.hub.join()
		defer leave()
		w.Header().Set("Content-Type", "text/event-stream")
		st := stream{
			stage: s, to: http.NewResponseController(w), w: w, phones: map[string]uint64{}, told: map[string][]byte{},
			ask: asker{stage: s, token: token}, watch: r.URL.Query().Get("watch"),
		}
		look, alive := time.NewTicker(lookEvery), time.NewTicker(aliveEvery) //nolint:forbidigo // for people who watch
		defer look.Stop()
		defer alive.Stop()
		for st.all(r.Context()) == nil {
			if !st.rest(r.Context(), news, look.C, alive.C) {
				return
			}
		}
	}
}

// stream is the news for one page.
type stream struct {
	stage  *Stage
	to     *http.ResponseController
	w      http.ResponseWriter
	phones map[string]uint64 // what is known of each, by Changed
	told   map[string][]byte // what was last said, by event
	ask    asker
	watch  string
	failed error
}

// rest waits for news; false if nobody listens any more.
func (st *stream) rest(ctx context.Context, news <-chan struct{}, look, alive <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-look:
	case <-alive:
		_, st.failed = st.w.Write([]byte(": alive\n\n"))
	case <-news:
		pause := time.NewTimer(newsEvery) //nolint:forbidigo // what comes within it is told at once
		defer pause.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
	}
	return st.failed == nil
}

// all says all that has changed.
func (st *stream) all(ctx context.Context) error {
	overall := Overall{Node: st.stage.runner.Status(), OffsetMS: st.stage.runner.Offset().Milliseconds()}
	var phones [][]byte
	var watched *metatest.Phone
	err := st.stage.carrier.See(func(p *metatest.Phones, now time.Time) error {
		overall.Now, overall.Troubles, overall.Waiting = now, p.Troubles(), p.Waiting()
		for _, f := range p.All() {
			overall.Phones = append(overall.Phones, f.ID)
			if f.ID == st.watch {
				copied := *f
				watched = &copied
			}
			if known, ok := st.phones[f.ID]; ok && known == f.Changed {
				continue
			}
			st.phones[f.ID] = f.Changed
			b, err := json.Marshal(f)
			if err != nil {
				return err
			}
			phones = append(phones, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	st.sayOverall(overall)
	for _, b := range phones {
		st.say("phone", b)
	}
	if watched != nil {
		st.inside(ctx, watched)
	}
	return errors.Join(st.failed, st.to.Flush())
}

// sayOverall says it if anything but the time has changed.
func (st *stream) sayOverall(o Overall) {
	now := o.Now
	o.Now = time.Time{}
	key, err := json.Marshal(o)
	if err != nil || bytes.Equal(key, st.told["overall"]) {
		return
	}
	st.told["overall"] = key
	o.Now = now
	if b, err := json.Marshal(o); err == nil {
		st.say("overall", b)
	}
}

func (st *stream) inside(ctx context.Context, f *metatest.Phone) {
	in, ok := st.ask.inside(ctx, f)
	if !ok {
		return
	}
	b, err := json.Marshal(in)
	if err != nil || bytes.Equal(b, st.told["inside"]) {
		return
	}
	st.told["inside"] = b
	st.say("inside", b)
}

func (st *stream) say(event string, data []byte) {
	if st.failed == nil {
		_, st.failed = st.w.Write(append(append([]byte("event: "+event+"\ndata: "), data...), "\n\n"...))
	}
}

// asker asks the node's admin API.
type asker struct {
	stage *Stage
	token string
}

// inside is what the node tells of a phone's conversation; false if it doesn't.
func (a asker) inside(ctx context.Context, f *metatest.Phone) (Inside, bool) {
	id := url.QueryEscape(conversation(f).String())
	var c map[string]json.RawMessage
	var d struct {
		DeadLetters json.RawMessage `json:"dead_letters"`
	}
	if a.get(ctx, "/api/conversation?history="+historyMost+"&conversation="+id, &c) != nil ||
		a.get(ctx, "/api/deadletters?conversation="+id, &d) != nil {
		return Inside{}, false
	}
	delete(c, "now") // it is no news
	b, err := json.Marshal(c)
	return Inside{ID: f.ID, Conversation: b, DeadLetters: d.DeadLetters}, err == nil
}

func (a asker) get(ctx context.Context, path string, into any) error {
	admin := a.stage.runner.Admin()
	if admin == "" {
		return errNotUp
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+path, http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	b, err := readAll(answer.Body, answerBytes)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errNotUp
	}
	return json.Unmarshal(b, into)
}

var errNotUp = errors.New("the node is not up")
