package egress_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// story is how sending, or the reports on it, went wrong in somebody's program, as
// it was told in public.
type story struct {
	name  string
	link  string
	wrong string         // what went wrong there
	play  func(s *stage) // fails if it goes wrong here, too
}

// TestStories plays what has gone wrong for others.
func TestStories(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`^https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/[0-9]+$`)
	for _, c := range stories {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !link.MatchString(c.link) || c.wrong == "" {
				t.Errorf("link %q, %q: want where it was told, and what", c.link, c.wrong)
			}
			defer func() {
				if t.Failed() {
					t.Logf("as in %s: %s", c.link, c.wrong)
				}
			}()
			c.play(newStage(t))
		})
	}
}

var stories = []story{
	{
		"LostAnswer", "https://github.com/camel-ai/camel/issues/4280",
		"a send that timed out was sent again, and the person got it twice", playLostAnswer,
	},
	{
		"LostWorker", "https://github.com/devlikeapro/waha/issues/1225",
		"the worker could not confirm what it had sent; its job was run again and sent it twice", playLostWorker,
	},
	{
		"PairRate", "https://github.com/fabrahaingo/joel/pull/308",
		"one part of an answer met 131056; the whole answer was sent again, which made it worse, and waited 22 min in a place of all", playPairRate,
	},
	{
		"Throughput", "https://github.com/botpress/botpress/pull/14246",
		"what the number's throughput (130429) refused was lost, later given up after three attempts", playThroughput,
	},
	{
		"OwnThrottle", "https://github.com/ArnasDon/wacrm/pull/481",
		"the program's own limit refused a campaign's batches and wrote their people off as failed", playOwnThrottle,
	},
	{
		"DeadToken", "https://github.com/chatwoot/chatwoot/issues/9708",
		"the token had expired; messages looked as if they had been sent, and never were", playDeadToken,
	},
	{
		"Transient", "https://github.com/restfb/restfb/issues/650",
		"is_transient was dropped, so that nobody could tell an error that passes from one that stays", playTransient,
	},
	{
		"FrozenClock", "https://github.com/fabrahaingo/joel/pull/314",
		"the 24 h window was judged when the run began, not when a message left, and the refusal that came later (131047) reached nobody", playFrozenClock,
	},
	{
		"OptedOut", "https://github.com/tactilenews/100eyes/issues/2148",
		"whoever stopped marketing (131050) was sent more of it, and every send failed", playOptedOut,
	},
	{
		"UserIDInTo", "https://github.com/chatwoot/chatwoot/pull/15150",
		"a business-scoped user id in the field to was answered like a success and dropped", playUserIDInTo,
	},
	{
		"LaterOvertakes", "https://github.com/Neurotech-HQ/heyoo/issues/67",
		"several messages to one person were shown in another order than they were sent in", playLaterOvertakes,
	},
	{
		"OwnEcho", "https://github.com/fbsamples/messenger-platform-samples/pull/99",
		"the bot took the echo of its own message for one of the user's and answered it", playOwnEcho,
	},
	{
		"Downgraded", "https://github.com/chatwoot/chatwoot/issues/14529",
		"a late sent or delivered took back that a message had been read", playDowngraded,
	},
	{
		"FailedThenSent", "https://github.com/djdang3r/whatsapp-api-manager/pull/102",
		"a late success took back a failure", playFailedThenSent,
	},
	{
		"UnknownID", "https://github.com/opengovsg/postmangovsg/pull/2146",
		"a status of an unknown message was answered with 400, so that Meta sent it again, and more and more", playUnknownID,
	},
	{
		"DeliveredWithoutSent", "https://github.com/opengovsg/postmangovsg/pull/2151",
		"delivered came although sent never had, and was refused", playDeliveredWithoutSent,
	},
	{
		"StatusBeforeAnswer", "https://github.com/botpress/botpress/pull/15029",
		"a status came before the send's answer had been stored, and found no message", playStatusBeforeAnswer,
	},
	{
		"StatusesBlock", "https://github.com/botpress/botpress/pull/15083",
		"messages waited behind the statuses; bots were down for a day", playStatusesBlock,
	},
	{
		"FirstOfBatch", "https://github.com/chatwoot/chatwoot/pull/15276",
		"of several statuses in one webhook only the first counted, and it was looked up without its tenant", playFirstOfBatch,
	},
	{
		"ReasonLost", "https://github.com/shridarpatil/frappe_whatsapp/pull/253",
		"why a message failed is told once only, and was thrown away", playReasonLost,
	},
}

var (
	second = parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "201"}
	rival  = parley.Channel{Brand: "rival", Kind: parley.WhatsApp, ID: "300"}
)

const (
	ann = "491"
	bob = "492"
)

// wantShown fails the test unless somebody got these texts, in this order.
func (s *stage) wantShown(to string, want ...string) {
	s.t.Helper()
	if got := s.shown(to); !slices.Equal(got, want) {
		s.t.Errorf("%s was shown %q, want %q", to, got, want)
	}
}

// wantStatus fails the test unless that is known of a message.
func (s *stage) wantStatus(ch parley.Channel, providerID string, want parley.Status) {
	s.t.Helper()
	if got := s.delivery(ch, providerID); got.Status != want {
		s.t.Errorf("%s is %q, want %q", providerID, got.Status, want)
	}
}

// sent lets the bot say something on a number, and returns how Meta got it.
func (s *stage) sent(ch parley.Channel, to, text string) request {
	s.t.Helper()
	s.hear(ch, to, text)
	s.pass(time.Second)
	all := s.requests(to)
	if len(all) == 0 || all[len(all)-1].text != text {
		s.t.Fatalf("%q didn't leave", text)
	}
	return all[len(all)-1]
}

func opaque(r request) string { return fmt.Sprintf(`,"biz_opaque_callback_data":%q`, r.id) }

func playLostAnswer(s *stage) {
	s.answers(func(request) reply { return reply{} })
	q := s.sent(number, ann, "hi")
	s.answers(take)
	s.pass(egress.DoubtfulWait - 5*time.Second)
	s.change(number, `"statuses":[`+s.status("wamid.of Meta's", ann, parley.StatusSent, opaque(q))+`]`)
	s.pass(5 * time.Minute)
	s.wantShown(ann, "hi")
	s.wantStatus(number, "wamid.of Meta's", parley.StatusSent)
	s.ended()
}

func playLostWorker(s *stage) {
	s.hear(number, ann, "hi")
	s.pass(s.latency / 2)
	s.lose(number)
	s.pass(egress.LeaseTTL + egress.DoubtfulWait)
	s.wantShown(ann, "hi")
	q := s.requests(ann)[0]
	s.report(number, s.status(wamid(q), ann, parley.StatusSent, opaque(q))) // which wakes the next worker
	s.pass(5 * time.Minute)
	s.wantShown(ann, "hi")
	s.wantStatus(number, wamid(q), parley.StatusSent)
	s.ended()
}

func playPairRate(s *stage) {
	refused := 0
	s.answers(func(q request) reply {
		if q.text == "two" && refused < 2 {
			refused++
			return refusal(http.StatusBadRequest, 131056, "")
		}
		return take(q)
	})
	s.hear(number, ann, "one\ntwo\nthree")
	s.pass(2 * time.Second)
	s.wantShown(ann, "one")
	for i := range 20 { // others meanwhile
		other := fmt.Sprint("50", i)
		s.sent(number, other, "hello")
		s.wantShown(other, "hello")
	}
	s.pass(time.Minute)
	s.wantShown(ann, "one", "two", "three")
	if n := len(s.requests(ann)); n != 5 {
		s.t.Errorf("%d sends, want 3 and the 2 that were refused", n)
	}
	s.ended()
}

func playThroughput(s *stage) {
	until := s.now + 3*time.Minute
	s.answers(func(q request) reply {
		if q.at < until {
			return refusal(http.StatusBadRequest, 130429, "")
		}
		return take(q)
	})
	for i := range 10 {
		s.hear(number, fmt.Sprint("50", i), "hello")
	}
	s.pass(3 * time.Minute)
	if n := len(s.requests("")); n > 10+10 {
		s.t.Errorf("%d sends while the number was refused", n)
	}
	s.pass(10 * time.Minute)
	for i := range 10 {
		s.wantShown(fmt.Sprint("50", i), "hello")
	}
	s.ended()
}

func playOwnThrottle(s *stage) {
	s.policy.Pace = egress.PaceOf(parley.WhatsApp)
	const people = 240
	for i := range people {
		s.hear(number, fmt.Sprint("50", i), "bulk news")
	}
	began := s.now
	for range 2 { // whoever writes meanwhile is answered
		s.sent(number, ann, "hello")
	}
	if s.backlog().Unsent == 0 {
		s.t.Fatal("the campaign was over before anybody wrote")
	}
	s.pass(began + 5*time.Second - s.now)
	s.ended()
	for i := range people {
		s.wantShown(fmt.Sprint("50", i), "bulk news")
	}
	all := s.requests("")
	for i, j := 0, 0; i < len(all); i++ {
		for all[i].at-all[j].at >= time.Second {
			j++
		}
		if n := i - j + 1; n > egress.NumberPerSecond {
			s.t.Fatalf("%d sends in a second", n)
		}
	}
}

func playDeadToken(s *stage) {
	s.tokens = map[parley.Channel]string{number: "old", second: "good"}
	s.answers(func(q request) reply {
		if q.token == "old" {
			return refusal(http.StatusUnauthorized, 190, `,"error_subcode":463`)
		}
		return take(q)
	})
	s.hear(number, ann, "one\ntwo")
	s.pass(time.Hour)
	s.wantShown(ann)
	if p, _ := s.sender(number).Paused(); p.Reason != egress.Dead || p.Code != 190 {
		s.t.Errorf("the channel is %+v: nobody is told", p)
	}
	if b := s.backlog(); b.Unsent != 2 || b.Dead != 0 {
		s.t.Errorf("%+v: want both to wait", b)
	}
	s.sent(second, bob, "hello")
	s.wantShown(bob, "hello")
	s.tokens[number] = "new"
	s.sender(number).Release(s.now)
	s.pass(5 * time.Second)
	s.wantShown(ann, "one", "two")
	s.ended()
}

func playTransient(s *stage) {
	left := 8 // more than the attempts that code 2 gets without the word
	s.answers(func(q request) reply {
		if left--; left >= 0 {
			return refusal(http.StatusInternalServerError, 2, `,"is_transient":true`)
		}
		return take(q)
	})
	s.page(`{"sender":{"id":"7"},"recipient":{"id":"100"},"timestamp":NOW,"message":{"mid":"m.in","text":"hi"}}`)
	s.pass(30 * time.Minute)
	s.wantShown("7", "hi")
	s.ended()
}

func playFrozenClock(s *stage) {
	s.tokens = map[parley.Channel]string{number: "old"}
	s.answers(func(q request) reply {
		if q.token == "old" {
			return refusal(http.StatusUnauthorized, 190, "")
		}
		return take(q)
	})
	s.hear(number, ann, "in time when it was decided")
	s.pass(parley.Window)
	s.tokens[number] = "new"
	s.pass(10 * time.Minute)
	s.wantShown(ann)
	q := s.sent(number, bob, "hello") // Meta may know better, later
	s.report(number, s.status(wamid(q), bob, parley.StatusFailed, `,"errors":[{"code":131047,"title":"Re-engagement message"}]`))
	got := s.failures()
	if len(got) != 2 || got[0].Why != parley.WindowClosed || got[1].Code != 131047 {
		s.t.Errorf("the bot heard %+v, want both", got)
	}
	s.ended()
}

func playOptedOut(s *stage) {
	s.answers(func(q request) reply {
		if q.text == "promo one" {
			return refusal(http.StatusBadRequest, 131050, "")
		}
		return take(q)
	})
	s.hear(number, ann, "promo one")
	s.pass(5 * time.Second)
	s.hear(number, ann, "promo two\nyour order is on its way")
	s.pass(5 * time.Second)
	s.wantShown(ann, "your order is on its way")
	got := s.failures()
	if len(got) != 2 || got[0].Why != parley.OptedOut || got[0].Code != 131050 || got[1].Why != parley.OptedOut {
		s.t.Errorf("the bot heard %+v, want that each promo was stopped", got)
	}
	if n := len(s.requests(ann)); n != 2 {
		s.t.Errorf("%d sends: what is known to be refused left", n)
	}
	s.ended()
}

func playUserIDInTo(s *stage) {
	s.change(number, `"contacts":[{"user_id":"DE.77"}],"messages":[{"from_user_id":"DE.77","id":"wamid.in","timestamp":"1790003600","type":"text","text":{"body":"hi"}}]`)
	s.pass(time.Second)
	all := s.requests("")
	if len(all) != 1 || all[0].to != "" || all[0].recipient != "DE.77" || all[0].text != "hi" {
		s.t.Errorf("sent %+v", all)
	}
	s.ended()
}

func playLaterOvertakes(s *stage) {
	s.policy.AwaitDelivered = time.Minute
	refuse := true
	s.answers(func(q request) reply {
		if refuse {
			refuse = false
			return refusal(http.StatusInternalServerError, 131000, "")
		}
		return take(q)
	})
	s.hear(number, ann, "one\ntwo")
	s.pass(20 * time.Second)
	s.wantShown(ann, "one") // and it hasn't arrived yet
	one := s.requests(ann)[1]
	s.report(number, s.status(wamid(one), ann, parley.StatusDelivered, ""))
	s.wantShown(ann, "one", "two")
	s.ended()
}

func playOwnEcho(s *stage) {
	s.page(`{"sender":{"id":"7"},"recipient":{"id":"100"},"timestamp":NOW,"message":{"mid":"m.in","text":"hi"}}`)
	s.pass(time.Second)
	q := s.requests("7")[0]
	s.page(fmt.Sprintf(`{"sender":{"id":"100"},"recipient":{"id":"7"},"timestamp":NOW,"message":{"mid":%q,"is_echo":true,"app_id":1,"metadata":%q,"text":"hi"}}`, wamid(q), q.id))
	s.page(fmt.Sprintf(`{"sender":{"id":"7"},"recipient":{"id":"100"},"timestamp":NOW,"delivery":{"mids":[%q],"watermark":NOW}}`, wamid(q)))
	s.page(`{"sender":{"id":"7"},"recipient":{"id":"100"},"timestamp":NOW,"read":{"watermark":NOW}}`)
	s.pass(time.Minute)
	s.wantShown("7", "hi")
	if len(s.heard) != 1 {
		s.t.Errorf("the bot heard %+v, want the user's message only", s.heard)
	}
	s.wantStatus(page, wamid(q), parley.StatusRead)
	s.ended()
}

func playDowngraded(s *stage) {
	q := s.sent(number, ann, "hi")
	for _, is := range []parley.Status{parley.StatusRead, parley.StatusDelivered, parley.StatusSent} {
		s.report(number, s.status(wamid(q), ann, is, ""))
		s.wantStatus(number, wamid(q), parley.StatusRead)
	}
	s.ended()
}

func playFailedThenSent(s *stage) {
	q := s.sent(number, ann, "hi")
	failed := s.status(wamid(q), ann, parley.StatusFailed, `,"errors":[{"code":131026,"title":"undeliverable"}]`)
	s.report(number, failed)
	s.report(number, s.status(wamid(q), ann, parley.StatusDelivered, ""), failed)
	s.wantStatus(number, wamid(q), parley.StatusFailed)
	if got := s.failures(); len(got) != 1 {
		s.t.Errorf("the bot heard %+v, want the failure once", got)
	}
	s.ended()
}

func playUnknownID(s *stage) {
	for range 3 { // as Meta repeats it
		s.report(number,
			s.status("wamid.nobody's", ann, parley.StatusDelivered, ""),
			s.status("wamid.another's", ann, parley.StatusFailed, `,"biz_opaque_callback_data":"theirs","errors":[{"code":131026}]`))
	}
	if len(s.heard) != 0 {
		s.t.Errorf("the bot heard %+v of what isn't its own", s.heard)
	}
	s.sent(number, ann, "hi")
	s.wantShown(ann, "hi")
	s.ended()
}

func playDeliveredWithoutSent(s *stage) {
	q := s.sent(number, ann, "hi")
	s.report(number, s.status(wamid(q), ann, parley.StatusDelivered, ""))
	s.wantStatus(number, wamid(q), parley.StatusDelivered)
	p := s.sent(number, ann, "ho")
	s.report(number, s.status(wamid(p), ann, parley.StatusRead, ""))
	s.wantStatus(number, wamid(p), parley.StatusRead)
	s.ended()
}

func playStatusBeforeAnswer(s *stage) {
	s.latency = 20 * time.Second // what Meta reports is there before
	failed := `,"errors":[{"code":131026,"title":"undeliverable"}]`
	a, b, c := s.sent(number, ann, "hi"), s.sent(number, bob, "ho"), s.sent(number, "493", "hey")
	s.report(number,
		s.status(wamid(a), ann, parley.StatusDelivered, ""),
		s.status(wamid(b), bob, parley.StatusFailed, failed),
		s.status(wamid(c), "493", parley.StatusRead, opaque(c)))
	s.pass(5 * time.Minute)
	s.wantStatus(number, wamid(a), parley.StatusDelivered)
	s.wantStatus(number, wamid(b), parley.StatusFailed)
	s.wantStatus(number, wamid(c), parley.StatusRead)
	for _, q := range []request{a, b, c} {
		if d := s.delivery(number, wamid(q)); d.ID.String() != q.id {
			s.t.Errorf("%+v isn't known as ours", d)
		}
		s.wantShown(q.to, q.text)
	}
	if got := s.failures(); len(got) != 1 || got[0].ID.String() != b.id {
		s.t.Errorf("the bot heard %+v, want that %s failed", got, b.id)
	}
	s.ended()
}

func playStatusesBlock(s *stage) {
	s.policy.FoldLimit, s.folding = 64, 50*time.Millisecond
	s.sent(number, ann, "hi")
	for i := range 30 * s.policy.FoldLimit { // 1.5 s of folding
		s.change(number, `"statuses":[`+s.status(fmt.Sprint("wamid.", i), ann, parley.StatusDelivered, "")+`]`)
	}
	for i := range 20 {
		to := fmt.Sprint("50", i)
		s.hear(number, to, "hello")
		heard := s.now
		s.pass(200 * time.Millisecond)
		if all := s.requests(to); len(all) == 0 || all[0].at > heard+150*time.Millisecond {
			s.t.Fatalf("answer %d waits behind statuses: %+v, heard at %v", i, all, heard)
		}
	}
	s.pass(10 * time.Second)
	s.ended()
}

func playFirstOfBatch(s *stage) {
	q, p := s.sent(number, ann, "hi"), s.sent(number, bob, "ho")
	s.report(number,
		s.status(wamid(q), ann, parley.StatusDelivered, ""),
		s.status(wamid(p), bob, parley.StatusDelivered, ""),
		s.status(wamid(q), ann, parley.StatusRead, ""))
	s.report(rival, s.status(wamid(p), bob, parley.StatusFailed, `,"errors":[{"code":131026}]`))
	s.wantStatus(number, wamid(q), parley.StatusRead)
	s.wantStatus(number, wamid(p), parley.StatusDelivered)
	if got := s.failures(); len(got) != 0 {
		s.t.Errorf("the bot heard %+v, which is another brand's", got)
	}
	s.ended()
}

func playReasonLost(s *stage) {
	q := s.sent(number, ann, "hi")
	s.report(number, s.status(wamid(q), ann, parley.StatusFailed, `,"errors":[{"code":131053,"title":"Media upload error","error_data":{"details":"no such type"}}]`))
	s.report(number, s.status(wamid(q), ann, parley.StatusFailed, ""), s.status(wamid(q), ann, parley.StatusSent, ""))
	const reason = "Media upload error: no such type"
	if d := s.delivery(number, wamid(q)); d.Code != 131053 || d.Reason != reason {
		s.t.Errorf("known of it: %+v", d)
	}
	if got := s.failures(); len(got) != 1 || got[0].Code != 131053 || got[0].Reason != reason {
		s.t.Errorf("the bot heard %+v", got)
	}
	s.ended()
}
