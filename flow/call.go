package flow

import (
	"encoding/json"

	"github.com/parleychat/parley"
)

// CallUnreadable is the failure of a call whose answer OnAnswer could not read. It is
// never stored.
const CallUnreadable parley.CallFailure = "unreadable"

// CallWith makes a call whose body is v as JSON. Its answer is met by the rules of
// OnAnswer and Answered.
func (t *Turn[S]) CallWith(c parley.Call, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		t.fail("call %q: encode %T: %w", c.Name, v, err)
		return
	}
	c.Body = b
	t.Call(c)
}

// OnAnswer makes a rule for what comes of the call of that name: answer gets the
// service's answer, read from JSON, and failed the call if it has none: refused, given
// up, too large, or unreadable.
func OnAnswer[S, A any](call string, answer func(t *Turn[S], a A) error, failed func(t *Turn[S], c parley.Called) error) Rule[S] {
	if answer == nil || failed == nil {
		panic("flow: OnAnswer without both handlers: calls do fail")
	}
	return On(Answered(call), func(t *Turn[S]) error {
		c, _ := t.Input().(parley.Called) // Answered saw to it
		if !c.OK() {
			return failed(t, c)
		}
		var a A
		if err := c.Decode(&a); err != nil {
			c.Failure, c.Reason = CallUnreadable, err.Error()
			return failed(t, c)
		}
		return answer(t, a)
	})
}
