package metatest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// trialOf is a trial that has all of Meta's ordinary troubles.
func trialOf() metatest.TrialConfig {
	return metatest.TrialConfig{
		Seed: 7, Users: 30, Think: 3 * time.Second, Duration: 40 * time.Second, Duplicates: 0.2, Reorder: 0.1, Impatient: 0.2,
		StatusesMissing: 0.1, StatusesShuffle: 0.2, Rate: 50,
	}
}

func sinsOf(r metatest.TrialReport) (names []string) {
	for _, s := range r.Sins {
		names = append(names, s.Name)
	}
	return names
}

func TestGoodReceiversAreClean(t *testing.T) {
	t.Parallel()
	batched := func(c *metatest.TrialConfig) { c.Batch, c.Rate, c.Users, c.Receipts = 1000, 1000, 500, 100 }
	for name, set := range map[string]func(*metatest.TrialConfig, *receiver){
		"plain":   func(*metatest.TrialConfig, *receiver) {},
		"batches": func(c *metatest.TrialConfig, _ *receiver) { batched(c) },
		"clicks": func(c *metatest.TrialConfig, _ *receiver) {
			c.Scripts, _ = metatest.ParseScripts([]byte("hello {n}\n/click MENU\n/click YES\nhello\n"))
		},
		"constant": func(_ *metatest.TrialConfig, r *receiver) { r.constant = true },
		"several":  func(c *metatest.TrialConfig, r *receiver) { c.Replies, r.twice = 2, true },
		"heavy": func(c *metatest.TrialConfig, _ *receiver) {
			c.Graph.Faults, _ = metatest.FaultsOf("heavy")
			c.Graph.Patience, c.ReplyWithin = 2*time.Second, 60*time.Second
		},
		"hangs and losses": func(c *metatest.TrialConfig, _ *receiver) {
			c.Graph.Hang, c.Graph.HangFor, c.Graph.Undelivered, c.ReplyWithin = 0.05, 5*time.Second, 0.1, 60*time.Second
		},
		"refused users": func(c *metatest.TrialConfig, _ *receiver) {
			c.Graph.Users = []metatest.GraphCode{{Code: 131026}, {Code: 551}, {Code: 10, Subcode: 2018278}, {Code: 1, Subcode: 1357046}}
		},
		"silence": func(c *metatest.TrialConfig, r *receiver) { c.Listener, r.drops = true, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, r := trialOf(), &receiver{}
			set(&cfg, r)
			got := examined(t, cfg, r)
			if !got.Clean || got.Waiting != 0 || got.Messages < 100 || got.Acked != got.Messages || got.Forgeries != 4 {
				t.Errorf("not clean, or too little: %+v", got)
			}
			if !cfg.Listener && got.Replied < got.Messages*8/10 {
				t.Errorf("%d replies to %d messages", got.Replied, got.Messages)
			}
		})
	}
}

// Each mistake is named, and no other.
func TestSins(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		bad  *receiver
		set  func(*metatest.TrialConfig)
		want []string
		may  []string // follow from it
		says string   // in an example
	}{
		{name: "acks first and drops", bad: &receiver{drops: 7}, want: []string{"dropped"}, says: "message"},
		{name: "drops the rest of a batch", bad: &receiver{firstOnly: true}, want: []string{"dropped"}, may: []string{"out_of_order"}, set: func(c *metatest.TrialConfig) {
			c.Batch, c.Rate, c.Users, c.Channels = 50, 300, 300, metatest.Counts{Messenger: 5, Instagram: 5, WhatsApp: 5}
		}},
		{name: "knows only phone numbers", bad: &receiver{phonesOnly: true}, want: []string{"dropped"}, says: "no phone number"},
		{name: "answers echoes", bad: &receiver{answersEchoes: true}, want: []string{"echo_answered"}, may: []string{"status_answered"}, says: "own earlier words"},
		{name: "answers itself", bad: &receiver{answersSelf: true}, want: []string{"echo_answered"}, says: "itself"},
		{name: "answers receipts", bad: &receiver{answersStatus: true}, want: []string{"status_answered"}, may: []string{"doubled", "dropped", "echo_answered"}},
		{name: "answers twice", bad: &receiver{twice: true}, want: []string{"doubled"}, says: "without a reason"},
		{name: "answers duplicates", bad: &receiver{noDedup: true}, want: []string{"doubled"}, may: []string{"echo_answered", "status_answered"}, says: "delivered again"},
		{name: "answers duplicates always alike", bad: &receiver{noDedup: true, constant: true}, want: []string{"doubled"}, may: []string{"echo_answered", "status_answered"}},
		{name: "verifies nothing", bad: &receiver{noVerify: true}, want: []string{"forged"}, says: "secret"},
		{name: "is slow", bad: &receiver{slow: 9}, want: []string{"slow_ack"}, says: "within 5s"},
		{name: "fails", bad: &receiver{fails: 9}, want: []string{"not_200"}, may: []string{"duplicate_refused"}, says: "500"},
		{name: "fails always", bad: &receiver{fails: 1}, want: []string{"not_200", "unsubscribed"}, set: func(c *metatest.TrialConfig) { c.Compress = 360 }},
		{name: "refuses duplicates", bad: &receiver{refusesAgain: true}, want: []string{"duplicate_refused"}, may: []string{"unsubscribed"}, says: "409"},
		{name: "replies out of order", bad: &receiver{lateFirst: true}, want: []string{"out_of_order"}, may: []string{"dropped"}, set: func(c *metatest.TrialConfig) { c.Impatient, c.Reorder = 1, 0 }},
		{name: "names people wrongly", bad: &receiver{bsuidInTo: true}, want: []string{"undelivered"}},
		{name: "sends what is too long", bad: &receiver{tooLong: true}, want: []string{"bad_send"}, says: "Length"},
		{name: "sends to strangers", bad: &receiver{strangers: true}, want: []string{"dropped", "stray"}, says: "999999"},
		{name: "doesn't send again", bad: &receiver{sendsOnce: true}, want: []string{"dropped"}, set: func(c *metatest.TrialConfig) { c.Graph.Transient = 0.1 }},
		{name: "says what isn't expected", bad: &receiver{}, want: []string{"wrong_reply"}, set: func(c *metatest.TrialConfig) {
			c.Scripts, _ = metatest.ParseScripts([]byte("hello {n}\n/expect good day\n"))
		}},
		{name: "says what nobody waits for", bad: &receiver{}, want: []string{"unasked"}, set: func(c *metatest.TrialConfig) {
			c.Scripts, _ = metatest.ParseScripts([]byte("hello {n}\nbye {n}\n/silent\n"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := trialOf()
			if test.set != nil {
				test.set(&cfg)
			}
			got := examined(t, cfg, test.bad)
			names := sinsOf(got)
			for _, name := range test.want {
				if !slices.Contains(names, name) {
					t.Errorf("%s isn't named: %+v", name, got)
				}
			}
			for _, name := range names {
				if !slices.Contains(test.want, name) && !slices.Contains(test.may, name) {
					t.Errorf("%s is named: %+v", name, got.Sins)
				}
			}
			if examples := fmt.Sprint(got.Sins); !strings.Contains(examples, test.says) {
				t.Errorf("nothing says %q: %s", test.says, examples)
			}
		})
	}
}

// What is dropped is counted, each once.
func TestDroppedAreCounted(t *testing.T) {
	t.Parallel()
	r := &receiver{drops: 10}
	got := examined(t, trialOf(), r)
	if len(got.Sins) != 1 || got.Sins[0].Count != r.handled/10 || got.Replied != got.Messages-r.handled/10 {
		t.Errorf("dropped %d of %d; found %+v", r.handled/10, r.handled, got)
	}
}

// The same seed tells the same story.
func TestTrialIsDeterministic(t *testing.T) {
	t.Parallel()
	cfg := trialOf()
	cfg.Graph.Faults, _ = metatest.FaultsOf("heavy")
	a, b := examined(t, cfg, &receiver{drops: 7}), examined(t, cfg, &receiver{drops: 7})
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("differ:\n%+v\n%+v", a, b)
	}
}

func TestTrialLimits(t *testing.T) {
	t.Parallel()
	trial, err := metatest.NewTrial(metatest.TrialConfig{Users: 1, Mix: metatest.Shares{WhatsApp: 1}, Token: "T", Compress: 60, Duration: time.Second, Numbers: []string{"42"}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	trial.Due(now)
	send := func(body, token string) string {
		a := trial.Graph(metatest.GraphRequest{Method: "POST", Path: "/v26.0/42/messages", Token: token, Body: []byte(body)}, now)
		return string(a.Body)
	}
	const to = `{"messaging_product":"whatsapp","to":"491500000000",`
	const text, template = to + `"type":"text","text":{"body":"hi"}}`, to + `"type":"template","template":{"name":"%s","language":{"code":"en"}}}`
	expect := func(what, got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("before the user has written", send(text, "T"), `"code":131047`)
	for range 20 {
		now = now.Add(100 * time.Millisecond)
		trial.Due(now)
	}
	expect("another token", send(text, "other"), `"code":190`)
	expect("a template that isn't there", send(fmt.Sprintf(template, "spring_sale"), "T"), `"code":132001`)
	for range 45 {
		expect("inside of all limits", send(text, "T"), `"messages"`)
	}
	expect("the 46th at once to one user", send(text, "T"), `"code":131056`)
	now = now.Add(6 * time.Second)
	expect("six seconds later", send(text, "T"), `"messages"`)
	now = now.Add(25 * time.Minute)
	expect("after 24 h, compressed", send(text, "T"), `"code":131047`)
	expect("a template after 24 h", send(fmt.Sprintf(template, "hello_world"), "T"), `"messages"`)
}

// 80 messages per second of a number, whoever they are to.
func TestTrialPace(t *testing.T) {
	t.Parallel()
	trial, err := metatest.NewTrial(metatest.TrialConfig{
		Users: 100, Mix: metatest.Shares{WhatsApp: 1}, Rate: 1e6, Think: time.Millisecond, Duration: 10 * time.Second, Numbers: []string{"42"}, Workers: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	trial.Due(now)
	trial.Due(now.Add(10 * time.Millisecond)) // all write, which counts
	now = now.Add(1100 * time.Millisecond)
	throttled := 0
	for i := range 100 {
		if i%10 == 9 {
			continue // has no number
		}
		body := fmt.Sprintf(`{"messaging_product":"whatsapp","to":"4915%08d","type":"text","text":{"body":"hi"}}`, i)
		a := trial.Graph(metatest.GraphRequest{Method: "POST", Path: "/42/messages", Token: "x", Body: []byte(body)}, now)
		if strings.Contains(string(a.Body), "130429") {
			throttled++
		}
	}
	if throttled < 5 || throttled > 15 { // of 90, 80 and what a millisecond fills
		t.Errorf("%d of 90 were throttled", throttled)
	}
}

func TestTrialIDs(t *testing.T) {
	t.Parallel()
	for _, ids := range [][]string{{"a b"}, {"1", "1"}, {""}, {strings.Repeat("1", 40)}} {
		if _, err := metatest.NewTrial(metatest.TrialConfig{Pages: ids}); err == nil {
			t.Errorf("%q is taken for ids", ids)
		}
	}
}
