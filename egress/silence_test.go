package egress_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// TestPersonSpeaksBeforeTheQueueIsEmpty: a colleague writes while answers of the bot
// still wait. What has gone is gone; the rest is never sent, also not when the bot has
// the word again, and the bot hears of each. Whether what is with Meta at that moment
// arrives is Meta's to say.
func TestPersonSpeaksBeforeTheQueueIsEmpty(t *testing.T) {
	t.Parallel()
	const person = `{"sender":{"id":"100"},"recipient":{"id":"7"},"timestamp":NOW,"message":{"mid":"m.person","is_echo":true,"app_id":2,"text":"I am here"}}`
	busy := func(r request) reply {
		if r.text == "one" {
			return take(r)
		}
		return refusal(400, 613, "")
	}
	for name, how := range map[string]func(request) reply{
		"Refused":  busy,
		"Doubtful": func(r request) reply { return map[bool]reply{true: take(r)}[r.text == "one"] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.yields = true
			s.answers(how)
			s.page(`{"sender":{"id":"7"},"recipient":{"id":"100"},"timestamp":NOW,"message":{"mid":"m.in","text":"one\ntwo\nthree"}}`)
			s.pass(time.Second)
			s.page(person)
			s.pass(2 * time.Second)
			s.answers(take)
			before := len(s.requests("7"))
			s.pass(2*time.Hour + egress.DoubtfulWait)
			if n := len(s.requests("7")); n != before {
				t.Errorf("%d requests after a person spoke: %v", n-before, s.requests("7"))
			}
			want := map[string]parley.Failure{"Refused": parley.TakenOver, "Doubtful": parley.OutcomeUnknown}[name]
			failed := s.failures()
			if len(failed) != 2 || failed[0].Why != want || failed[1].Why != parley.TakenOver {
				t.Errorf("the bot heard of %+v", failed)
			}
			s.page(`{"sender":{"id":"7"},"recipient":{"id":"100"},"timestamp":NOW,"message":{"mid":"m.again","text":"four"}}`)
			s.pass(time.Minute)
			if all := s.shown("7"); fmt.Sprint(all[len(all)-1]) != "four" {
				t.Errorf("the bot has the word again, and shown is %v", all)
			}
			s.ended()
		})
	}
}
