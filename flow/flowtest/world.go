package flowtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/parleychat/parley"
)

// MaxTurns is how many turns a bot may take because of one line of a transcript: it
// bounds a bot that never comes to rest, like one whose timer sets itself anew.
const MaxTurns = 10_000

// world is all that lies around Step on the real line: an inbox, a list of timers,
// an outbox and services, in virtual time. It does what actors, stores and senders do
// with a commit, and at once.
type world struct {
	bot      *parley.Bot
	way      *way
	kind     parley.ChannelKind
	now      time.Time
	talks    []*talk // in the order in which they began
	agenda   []due   // sorted by time, and of one time by when they were set
	seq      parley.Seq
	turns    uint64 // ever
	busy     int    // turns since the last line
	stubs    []stub
	services map[string]Service
	encodes  func(*parley.Outgoing) error
	told     []told
	step     int // the line that is played
}

// talk is a conversation.
type talk struct {
	user     string
	snapshot parley.Snapshot
	inbox    []parley.Pending
	older    map[parley.EventKey]bool // evicted from the snapshot
	again    []parley.Pending         // to be delivered once more
	first    *parley.Pending
	sent     []parley.Outgoing
	calls    []parley.OutgoingCall // not answered
	history  [][]byte
	messages int    // of the user's side: m1, m2 …
	last     string // the user's last message
}

type due struct {
	parley.Timer
	talk *talk
}

// told is something that happened.
type told struct {
	step   int
	at     time.Time
	talk   *talk
	who    string // bot, dead
	status string // why it wasn't sent
	head   string
	rest   []string
}

func newTalk(user string, kind parley.ChannelKind) *talk {
	contact := parley.UserKey + parley.Contact(user)
	if kind == parley.WhatsApp {
		contact = parley.PhoneKey + parley.Contact(user)
	}
	channel := parley.Channel{Brand: "test", Kind: kind, ID: "channel"}
	return &talk{
		user: user, older: map[parley.EventKey]bool{},
		snapshot: parley.Snapshot{Conversation: parley.Conversation{Channel: channel, Contact: contact}},
	}
}

// load is the snapshot as an actor has it: in memory, or read from the store.
func (k *talk) load(stored bool) (parley.Snapshot, error) {
	if !stored || k.snapshot.Version == (parley.Version{}) {
		return k.snapshot, nil
	}
	data, err := k.snapshot.AppendBinary(nil)
	if err != nil {
		return k.snapshot, fmt.Errorf("store: %w", err)
	}
	s := parley.Snapshot{Conversation: k.snapshot.Conversation}
	if err := s.UnmarshalBinary(data); err != nil {
		return s, fmt.Errorf("load: %w", err)
	}
	return s, nil
}

// arrive puts an event into the inbox.
func (w *world) arrive(k *talk, in parley.Input, key parley.EventKey, sent time.Time) error {
	data, err := parley.EncodeInput(in)
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	stored, err := parley.DecodeInput(data) // what a bot meets has been through the store
	if err != nil {
		return err //nolint:wrapcheck // says what it was
	}
	p := parley.Pending{
		Conversation: k.snapshot.Conversation, Key: key, Time: sent, Received: w.now, Input: stored, Data: data,
	}
	w.row(k, p)
	if w.way.duplicated {
		w.row(k, p)
		k.again = append(k.again, p)
		if k.first == nil {
			k.first = &p
		}
	}
	return nil
}

func (w *world) row(k *talk, p parley.Pending) {
	w.seq++
	p.Row = parley.Row{Seq: w.seq, Token: parley.Token(w.seq) ^ 0x5eed}
	k.inbox = append(k.inbox, p)
}

// deliverAgain brings what took effect once more, and the first event of all.
func (w *world) deliverAgain() bool {
	found := false
	for _, k := range w.talks {
		if len(k.again) == 0 {
			continue
		}
		found = true
		for _, p := range append(k.again, *k.first) {
			p.Received = w.now
			w.row(k, p)
		}
		k.again = nil
	}
	return found
}

// fire moves due timers to the inboxes.
func (w *world) fire() error {
	for len(w.agenda) > 0 && !w.agenda[0].Due.After(w.now) {
		d := w.agenda[0]
		w.agenda = w.agenda[1:]
		in := parley.TimerFired{Name: d.Name, Generation: d.Generation, Due: d.Due}
		key := parley.NewEventKey("timer", d.talk.snapshot.Conversation.String(), d.ID.String())
		if err := w.arrive(d.talk, in, key, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// settle lets the bot handle whatever waits, until nothing does.
func (w *world) settle() error {
	for {
		if err := w.fire(); err != nil {
			return err
		}
		i := slices.IndexFunc(w.talks, func(k *talk) bool { return len(k.inbox) > 0 })
		switch {
		case i >= 0:
			if err := w.turn(w.talks[i]); err != nil {
				return err
			}
		case !w.deliverAgain():
			return nil
		}
	}
}

// pass lets time pass, and fires timers when they are due.
func (w *world) pass(until time.Time) error {
	for len(w.agenda) > 0 && !w.agenda[0].Due.After(until) {
		w.now = w.agenda[0].Due
		if err := w.settle(); err != nil {
			return err
		}
	}
	w.now = until
	return nil
}

// turn lets the bot handle the rows of a conversation, and commits.
func (w *world) turn(k *talk) error {
	rows := slices.Clone(k.inbox[:min(len(k.inbox), parley.MaxPendingPerTurn)])
	if w.busy++; w.busy > MaxTurns*w.way.effort() {
		return fmt.Errorf("the bot doesn't come to rest: %d turns (MaxTurns), the last one about %s", MaxTurns, shownInput(k.user, rows[0].Input))
	}
	s, err := k.load(w.way.stored)
	if err != nil {
		return err
	}
	c := w.circumstance(k, &s, rows)
	commit := parley.Step(w.bot, s, rows, c)
	if w.way.watch != nil {
		if err := w.way.watch(func() parley.Commit { return parley.Step(w.bot, s, rows, c) }, &commit); err != nil {
			return err
		}
	}
	if w.way.crash { // the process died before the commit: another one begins with what is stored
		if s, err = k.load(true); err != nil {
			return err
		}
		commit = parley.Step(w.bot, s, rows, w.circumstance(k, &s, rows))
	}
	if len(commit.History) == 0 { // every turn leaves a record
		return errors.New("the turn is put off: what is stored is of a newer version of the bot than this one")
	}
	k.inbox = k.inbox[len(rows):]
	return w.commit(k, &commit)
}

// shownInput is an input in an error.
func shownInput(user string, in parley.Input) string {
	lines, err := inputLines(user, in)
	if err != nil {
		return in.Kind()
	}
	return lines[0]
}

func (w *world) circumstance(k *talk, s *parley.Snapshot, rows []parley.Pending) parley.Circumstance {
	w.turns++
	c := parley.Circumstance{}
	binary.BigEndian.PutUint64(c.Nonce[:], w.turns)
	for i := range rows {
		if s.NeedsOlder(rows[i]) && k.older[rows[i].Key] {
			if c.Older == nil {
				c.Older = map[parley.EventKey]bool{}
			}
			c.Older[rows[i].Key] = true
		}
	}
	return c
}

// commit does what a store does with a commit, and then what senders and callers do
// with what is in it.
func (w *world) commit(k *talk, c *parley.Commit) error {
	k.snapshot = c.Next
	k.history = append(k.history, c.History)
	for _, key := range c.Evicted {
		k.older[key.Key] = true
	}
	for _, gone := range c.CancelTimers {
		w.agenda = slices.DeleteFunc(w.agenda, func(d due) bool { return d.ID == gone.ID })
	}
	for _, t := range c.SetTimers {
		w.agenda = append(w.agenda, due{t, k})
	}
	slices.SortStableFunc(w.agenda, func(a, b due) int { return a.Due.Compare(b.Due) })
	for _, id := range c.CancelCalls {
		k.calls = slices.DeleteFunc(k.calls, func(o parley.OutgoingCall) bool { return o.ID == id })
	}
	k.calls = append(k.calls, c.Calls...)
	return w.tell(k, c)
}

// record is what a commit's history says, as far as it is told.
type record struct {
	At   time.Time `json:"at"`
	Turn []struct {
		In  json.RawMessage `json:"in"`
		Not string          `json:"not"`
		Out []effect        `json:"out"`
	} `json:"turn"`
}

type effect struct {
	Effect string          `json:"effect"`
	Value  json.RawMessage `json:"value"`
}

// tell says what a turn did, in its order, and carries it out.
func (w *world) tell(k *talk, c *parley.Commit) error {
	if onlySends(c) { // as nearly always: no need to take the record apart
		for range c.Outbox {
			if err := w.send(k, c, effect{}); err != nil {
				return err
			}
		}
		return nil
	}
	var r record
	if err := json.Unmarshal(c.History, &r); err != nil {
		return fmt.Errorf("read the turn's record: %w", err)
	}
	for _, row := range r.Turn {
		if row.Not != "" && row.Not != "repeated" && row.Not != "stale" {
			w.say(k, told{who: "dead", head: ": " + shown(row.Not)})
		}
		for _, e := range row.Out {
			if err := w.effect(k, c, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// onlySends reports whether a turn did nothing that is told but to send what is in its
// outbox.
func onlySends(c *parley.Commit) bool {
	for _, other := range []string{"call", "cancel_call", "hand_off", "resume"} {
		if bytes.Contains(c.History, []byte(`{"effect":"`+other+`"`)) {
			return false
		}
	}
	return c.Withheld == 0 && len(c.Dead) == 0
}

func (w *world) say(k *talk, t told) {
	t.step, t.at, t.talk = w.step, w.now, k
	w.told = append(w.told, t)
}

func (w *world) effect(k *talk, c *parley.Commit, e effect) error {
	switch e.Effect {
	case "send":
		return w.send(k, c, e)
	case "withheld":
		s, err := parley.DecodeSend(e.Value)
		w.sayBot(k, "withheld", &s)
		return err //nolint:wrapcheck // says what it was
	case "call":
		return w.call(k, e.Value)
	case "cancel_call", "hand_off", "resume":
		return w.sayPlainly(k, e)
	}
	return nil
}

func (w *world) sayBot(k *talk, status string, s *parley.Send) {
	head, rest := shownSend(s)
	w.say(k, told{who: "bot", status: status, head: head, rest: rest})
}

// sayPlainly tells of what is neither a message nor a call.
func (w *world) sayPlainly(k *talk, e effect) error {
	var v struct {
		Name string         `json:"name"`
		To   parley.Speaker `json:"to"`
		For  time.Duration  `json:"for"`
	}
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return fmt.Errorf("read the turn's record: %w", err)
	}
	head := " resumes"
	switch e.Effect {
	case "cancel_call":
		head = " cancels call " + shownWord(v.Name)
	case "hand_off":
		head = " hands off to " + string(v.To)
		if v.For > 0 {
			head += " for " + shownDuration(v.For)
		}
	}
	w.say(k, told{who: "bot", head: head})
	return nil
}

// send does what a sender does with the next message of the commit: unless it isn't
// among its messages, since it is a dead letter already.
func (w *world) send(k *talk, c *parley.Commit, e effect) error {
	dropped := slices.IndexFunc(c.Dead, func(d parley.DeadLetter) bool {
		return d.Seq == 0 && string(d.Data) == `{"effect":"send","value":`+string(e.Value)+"}"
	})
	if dropped >= 0 {
		s, err := parley.DecodeSend(e.Value)
		w.sayBot(k, "dead: "+c.Dead[dropped].Cause, &s)
		c.Dead = slices.Delete(c.Dead, dropped, dropped+1)
		return err //nolint:wrapcheck // says what it was
	}
	o := c.Outbox[0]
	c.Outbox = c.Outbox[1:]
	if why := o.Heard.Refuses(w.kind, &o.Send, w.now); why != "" {
		w.sayBot(k, "refused: "+string(why), &o.Send)
		outcome := parley.Outcome{ID: o.ID, Kind: parley.Returned, Why: why, Cause: barred(why)}
		in, key := outcome.Failed(&o)
		return w.arrive(k, in, key, time.Time{})
	}
	status := ""
	if w.encodes != nil {
		if err := w.encodes(&o); err != nil {
			status = "dead: " + err.Error()
		}
	}
	w.sayBot(k, status, &o.Send)
	if status == "" {
		k.sent = append(k.sent, o)
	}
	return nil
}

// barred is a refusal in the words of the real sender.
func barred(why parley.Failure) string {
	if why == parley.OptedOut {
		return "the contact has stopped marketing"
	}
	return "the contact has not written for too long"
}

// call makes a call: of a service that somebody plays, or else it waits.
func (w *world) call(k *talk, value json.RawMessage) error {
	var c parley.Call
	if err := json.Unmarshal(value, &c); err != nil {
		return fmt.Errorf("read the turn's record: %w", err)
	}
	head := shownCall(&c)
	i := slices.IndexFunc(k.calls, func(o parley.OutgoingCall) bool { return o.Call.Name == c.Name })
	if i < 0 || asJSON(k.calls[i].Call) != asJSON(c) { // cancelled in the same turn, or replaced
		w.say(k, told{who: "bot", head: head})
		return nil
	}
	answer, ok := w.answer(&c)
	if !ok {
		w.say(k, told{who: "bot", head: head})
		return nil
	}
	w.say(k, told{who: "bot", head: head + " -> " + answer.String()})
	return w.reply(k, i, answer)
}

// reply brings the answer to a call.
func (w *world) reply(k *talk, i int, a Answer) error {
	if err := a.check(); err != nil {
		return err
	}
	o := k.calls[i]
	k.calls = slices.Delete(slices.Clone(k.calls), i, i+1)
	return w.arrive(k, a.to(&o), o.Key(), time.Time{})
}

// answer is what the service answers, if somebody plays it.
func (w *world) answer(c *parley.Call) (Answer, bool) {
	for _, s := range slices.Backward(w.stubs) {
		if s.fits(c) {
			return s.with, true
		}
	}
	if f, ok := w.services[c.Service]; ok {
		return f(*c), true
	}
	return Answer{}, false
}

// message is the bot's message of a number: b1 is the first.
func (k *talk) message(id string) (*parley.Outgoing, error) {
	for i := range slices.Backward(k.sent) {
		if s := &k.sent[i].Send; id == "" && s.Signal == nil && s.Reaction == nil || id == botID(&k.sent[i]) {
			return &k.sent[i], nil
		}
	}
	if id == "" {
		return nil, fmt.Errorf("the bot has sent nothing to %s", k.user)
	}
	return nil, fmt.Errorf("the bot has sent no %s to %s", id, k.user)
}

func botID(o *parley.Outgoing) string { return "b" + strconv.FormatUint(o.Ordinal, 10) }
