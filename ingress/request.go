package ingress

import (
	"bytes"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// request is a webhook between its first byte and its answer. It is the
// handler's, then the committer's from the queue to the answer, then the
// handler's again; after answerLate it stays the committer's, since an append
// that still runs reads it. Requests are used again, with their buffers.
type request struct {
	app      *app
	body     []byte
	held     int64 // bytes taken of the budget
	arrivals parley.Arrivals
	causes   [causesCount]int
	gated    bool        // holds app.directory.gate for reading
	done     chan answer // capacity 1
	resolve  func(kind parley.ChannelKind, id string) (parley.Channel, bool)
}

func newRequest() *request {
	r := &request{body: make([]byte, 0, SmallBodyBytes), done: make(chan answer, 1)}
	r.resolve = r.lookup // once: a method value is an allocation
	return r
}

func (s *Server) acquire(a *app) *request {
	r, ok := s.requests.Get().(*request)
	if !ok {
		r = newRequest()
	}
	r.app = a
	return r
}

// release makes r ready for use by another.
func (s *Server) release(r *request) {
	r.openGate()
	r.app = nil
	r.arrivals = parley.Arrivals{}
	r.causes = [causesCount]int{}
	if cap(r.body) > SmallBodyBytes {
		r.body = make([]byte, 0, SmallBodyBytes)
	}
	r.body = r.body[:0]
	s.requests.Put(r)
}

// lookup finds a channel of the app. From the first that is unknown on, it
// holds the directory's gate, and looks again under it.
func (r *request) lookup(kind parley.ChannelKind, id string) (parley.Channel, bool) {
	d := r.app.directory
	ch, ok := d.lookup(kind, id)
	if ok || r.gated {
		return ch, ok
	}
	d.gate.RLock()
	r.gated = true
	return d.lookup(kind, id)
}

func (r *request) openGate() {
	if r.gated {
		r.gated = false
		r.app.directory.gate.RUnlock()
	}
}

func (r *request) updates() int {
	return len(r.arrivals.Events) + len(r.arrivals.Receipts) + len(r.arrivals.Quarantined)
}

// unstorable reports whether an event can't be stored by any store, whatever
// its state: a mistake of the decoder.
func (r *request) unstorable() bool {
	for i := range r.arrivals.Events {
		if unstorable(&r.arrivals.Events[i]) {
			return true
		}
	}
	return false
}

func unstorable(e *parley.Event) bool {
	if misshapen(e) {
		return true
	}
	_, err := parley.EncodeInput(e.Input)
	return err != nil
}

func misshapen(e *parley.Event) bool {
	return e.Input == nil || len(e.Contacts) == 0 || len(e.Contacts) > parley.MaxContacts || slices.Contains(e.Contacts, "") ||
		e.Channel.Validate() != nil
}

// quarantineWhole makes the body, as it came, the only thing to be stored. If
// all its events are of one channel, the entry is that channel's, and is tried
// again when the channel is learnt anew.
func (r *request) quarantineWhole(why cause, text string, at time.Time) {
	ch := r.commonChannel()
	r.arrivals = parley.Arrivals{Quarantined: []parley.Quarantined{{
		App: r.app.Name, Kind: ch.Kind, ChannelID: ch.ID, Cause: text, Body: bytes.Clone(r.body), Received: at,
	}}}
	r.causes = [causesCount]int{}
	r.causes[why] = 1
}

func (r *request) commonChannel() parley.Channel {
	var common parley.Channel
	for i := range r.arrivals.Events {
		ch := r.arrivals.Events[i].Channel
		if i > 0 && ch != common {
			return parley.Channel{}
		}
		common = ch
	}
	return common
}
