package parley

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Call is a request to a service that the operator has configured under a name:
// where it is, its secrets, how often it is tried and how long it may take stand
// there, never in a bot. It is made once the turn's commit is durable, at least
// once, and each time with the same Idempotency-Key header. What came of it comes
// back as [Called].
//
// A call of the same name that is under way is replaced: its answer is dropped.
type Call struct {
	Name    string          `json:"name"`
	Service string          `json:"service"`
	Method  string          `json:"method,omitempty"` // GET, POST, PUT, PATCH, DELETE; empty: POST
	Path    string          `json:"path,omitempty"`   // behind the service's URL: "/orders/7?full=1"
	Body    json.RawMessage `json:"body,omitempty"`
	// Within is how long after the turn it is given up, the service's own time if 0.
	Within time.Duration `json:"within,omitempty"`
}

// CancelCall forgets the call of that name: its answer is dropped. The service may
// have heard of it all the same. If none is under way it does nothing.
type CancelCall struct {
	Name string `json:"name"`
}

// EffectKind names an effect in the store.
func (Call) EffectKind() string       { return "call" }
func (CancelCall) EffectKind() string { return "cancel_call" }

func (Call) isEffect()       {}
func (CancelCall) isEffect() {}

// Called is what came of a Call.
type Called struct {
	ID      ID     `json:"id"` // of the OutgoingCall, which was its Idempotency-Key
	Name    string `json:"name"`
	Service string `json:"service"`
	// Status and Body are the service's answer: its last one, if Failure is set.
	Status int    `json:"status,omitempty"`
	Body   []byte `json:"body,omitempty"` // at most MaxAnswerBytes
	// Failure says why there is no good answer, and Reason the details, in our words.
	Failure  CallFailure `json:"failure,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	Attempts int         `json:"attempts,omitempty"`
	// Retried says that its turn failed before, and the dead letter was retried by an
	// operator: the call isn't among those under way any more.
	Retried bool `json:"retried,omitempty"`
}

// OK reports whether the service answered, with a status of 200 to 299.
func (c Called) OK() bool { return c.Failure == "" }

// Decode reads the answer's body, which is JSON, into v.
func (c Called) Decode(v any) error {
	if err := json.Unmarshal(c.Body, v); err != nil {
		return fmt.Errorf("decode answer of %s into %T: %w", c.Service, v, err)
	}
	return nil
}

// CallFailure says why a call has no good answer. The values are stored; they never
// change.
type CallFailure string

// The failures of calls.
const (
	// CallRefused: the service answered that it won't, whenever it is asked (a status
	// from 300 to 499 but 408, 425 and 429).
	CallRefused CallFailure = "refused"
	// CallGaveUp: the service could not be reached or failed, until the attempts or
	// the time were used up.
	CallGaveUp CallFailure = "gave_up"
	// CallTooLarge: the answer was longer than MaxAnswerBytes.
	CallTooLarge CallFailure = "too_large"
	// CallUnknown: no service of that name is configured.
	CallUnknown CallFailure = "unknown_service"
)

// OutgoingCall is a call as the commit that decided it wrote it.
type OutgoingCall struct {
	ID           ID
	Conversation Conversation
	At           time.Time // the turn's time
	Call         Call
}

// Key is the key of the event that answers the call.
func (c *OutgoingCall) Key() EventKey {
	return NewEventKey("called", c.Conversation.Channel.String(), c.ID.String())
}

// Answer is what the conversation hears of the call when the service has answered with
// a status and a body, in the last of so many attempts.
func (c *OutgoingCall) Answer(status int, body []byte, attempts int) Called {
	in := Called{ID: c.ID, Name: c.Call.Name, Service: c.Call.Service, Status: status, Attempts: attempts}
	switch {
	case len(body) > MaxAnswerBytes:
		in.Failure, in.Reason = CallTooLarge, fmt.Sprintf("answer of more than %d bytes (MaxAnswerBytes)", MaxAnswerBytes)
	case status < 200 || status > 299:
		in.Body, in.Failure, in.Reason = body, CallRefused, fmt.Sprintf("status %d", status)
	default:
		in.Body = body
	}
	return in
}

// LiveCall is a call of a conversation that isn't answered yet.
type LiveCall struct {
	ID   ID
	Name string
}

// Call makes a request of a configured service.
func (t *Turn) Call(c Call) { t.Do(c) }

// CancelCall drops the answer of the call of that name.
func (t *Turn) CancelCall(name string) { t.Do(CancelCall{Name: name}) }

// Calling reports whether a call of that name is under way, or begun in this turn.
func (t *Turn) Calling(name string) bool {
	for _, e := range slices.Backward(t.effects) {
		switch e := e.(type) {
		case Call:
			if e.Name == name {
				return true
			}
		case CancelCall:
			if e.Name == name {
				return false
			}
		case End:
			return false
		default: // says nothing of calls
		}
	}
	return t.before.call(name) >= 0
}

func (t *Turn) checkCall(c *Call) {
	t.checkName("call name", c.Name, 1)
	t.checkName("service name", c.Service, 1)
	if len(c.Body) > MaxCallBytes {
		_ = t.over("call body of %d bytes: at most %d (MaxCallBytes)", len(c.Body), MaxCallBytes)
	}
	if len(c.Path) > MaxLineBytes {
		_ = t.over("call path of %d bytes: at most %d (MaxLineBytes)", len(c.Path), MaxLineBytes)
	}
	if c.Within < 0 || c.Within > MaxCallWithin {
		_ = t.over("call within %s: 0 to %s (MaxCallWithin)", c.Within, MaxCallWithin)
	}
	if err := c.malformed(); err != "" {
		_ = t.over("call of %s: %s", c.Service, err)
	}
}

// malformed says what is wrong with c apart from its size. A path can't lead to
// another host, nor above the service's URL.
func (c *Call) malformed() string {
	path, _, _ := strings.Cut(c.Path, "?")
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	dots := func(s string) bool {
		return strings.Trim(strings.ReplaceAll(strings.ToLower(s), "%2e", "."), ".") == ""
	}
	control := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }
	switch {
	case !slices.Contains([]string{"", http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, c.Method):
		return "method is none of GET, POST, PUT, PATCH and DELETE"
	case c.Path != "" && c.Path[0] != '/' && c.Path[0] != '?', strings.HasPrefix(c.Path, "//"):
		return `path doesn't begin with one "/"`
	case strings.ContainsFunc(c.Path, control) || strings.Contains(path, `\`):
		return "path has a space, a backslash, a fragment or a control character: escape it"
	case slices.ContainsFunc(segments, dots):
		return `path has "." or ".." in it`
	case len(c.Body) > 0 && !json.Valid(c.Body):
		return "body is not JSON"
	}
	return ""
}

// call begins a call.
func (w *work) call(c Call, now time.Time) {
	w.cancelCall(c.Name)
	out := OutgoingCall{ID: w.newID(now), Conversation: w.next.Conversation, At: now, Call: c}
	w.next.Calls = append(slices.Clip(w.next.Calls), LiveCall{ID: out.ID, Name: c.Name})
	w.out.Calls = append(w.out.Calls, out)
}

// cancelCall takes the call of that name from the live ones, and from those to be
// made: also one that this very commit was going to begin.
func (w *work) cancelCall(name string) {
	i := w.next.call(name)
	if i < 0 {
		return
	}
	id := w.next.Calls[i].ID
	w.next.Calls = slices.Delete(slices.Clone(w.next.Calls), i, i+1)
	same := func(c OutgoingCall) bool { return c.ID == id }
	if j := slices.IndexFunc(w.out.Calls, same); j >= 0 {
		w.out.Calls = slices.Delete(w.out.Calls, j, j+1)
		return
	}
	w.out.CancelCalls = append(w.out.CancelCalls, id)
}

// answer takes an answered call from the live ones. False: it was cancelled or
// replaced. One that is retried was taken from them when its turn failed: it is
// heard unless another of its name has begun, whose answer is the one to hear.
func (w *work) answer(c Called) bool {
	i := w.next.call(c.Name)
	if c.Retried {
		return i < 0
	}
	if i < 0 || w.next.Calls[i].ID != c.ID {
		return false
	}
	w.next.Calls = slices.Delete(slices.Clone(w.next.Calls), i, i+1)
	return true
}

func (s *Snapshot) call(name string) int {
	return slices.IndexFunc(s.Calls, func(c LiveCall) bool { return c.Name == name })
}
