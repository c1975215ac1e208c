package metatest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley/meta/metatest"
)

func start() time.Time { return time.Unix(1_790_000_000, 123_456_789).UTC() }

// busy is a configuration with all the troubles of Meta.
func busy(seed uint64) metatest.Config {
	cfg := metatest.Sized(200, 60)
	cfg.Seed, cfg.Start, cfg.Duration = seed, start(), 6*time.Second
	cfg.Duplicates, cfg.Delayed = 0.2, 0.1
	cfg.Timers = 0.2
	cfg.Faults = metatest.Faults{Transient: 0.03, Throttled: 0.03, Withheld: 0.03, Slow: 0.01, SlowFor: 6 * time.Second}
	return cfg
}

// quiet is a configuration in which a planted misbehaviour stands alone.
func quiet() metatest.Config {
	cfg := metatest.Sized(100, 40)
	cfg.Seed, cfg.Start, cfg.Duration = 7, start(), 6*time.Second
	cfg.Delayed, cfg.Shuffled, cfg.Timers = 0, 0, 0.2
	return cfg
}

func run(t *testing.T, cfg metatest.Config, plant misbehaviour) (*bot, metatest.Verdict) {
	t.Helper()
	w := metatest.NewWorld(cfg)
	b := newBot(t, w, plant)
	b.drive(30 * time.Second)
	return b, w.Verdict()
}

func TestHonestBotIsClean(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		b, v := run(t, busy(seed), misbehaviour{})
		if !v.Clean() {
			t.Fatalf("seed %d: %q", seed, v.Problems())
		}
		if v.Offered != 1200 || v.Effects != v.Offered || v.Acked != v.Offered {
			t.Errorf("seed %d: offered %d, acked %d, effects %d; want 1200 of each", seed, v.Offered, v.Acked, v.Effects)
		}
		for name, n := range map[string]int{
			"timers_set": v.TimersSet, "timers_rung": v.TimersRung, "duplicates": v.Duplicates,
			"receipts": v.Receipts, "withheld": v.Faults.Withheld, "slow": v.Faults.Slow,
			"throttled": v.Faults.Throttled, "transient": v.Faults.Transient, "sends_repeated": v.SendsRepeated,
		} {
			if n == 0 {
				t.Errorf("seed %d: %s is 0: the run tried too little", seed, name)
			}
		}
		if v.TimersRung >= v.TimersSet {
			t.Errorf("seed %d: %d of %d reminders rang; want some cancelled", seed, v.TimersRung, v.TimersSet)
		}
		if b.receipts < v.Receipts {
			t.Errorf("seed %d: %d of %d receipts arrived", seed, b.receipts, v.Receipts)
		}
	}
}

func TestAnyConfigurationIsCleanWithAnHonestBot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t2 *rapid.T) {
		cfg := metatest.Sized(rapid.Float64Range(1, 100).Draw(t2, "rate"), rapid.IntRange(1, 50).Draw(t2, "users"))
		cfg.Seed = rapid.Uint64().Draw(t2, "seed")
		cfg.Start, cfg.Duration = start(), time.Second
		fraction := rapid.Float64Range(0, 0.4)
		cfg.Duplicates, cfg.Delayed, cfg.Shuffled = fraction.Draw(t2, "dup"), fraction.Draw(t2, "delayed"), fraction.Draw(t2, "shuffled")
		cfg.Timers, cfg.Clicks = fraction.Draw(t2, "timers"), fraction.Draw(t2, "clicks")
		cfg.Batch = rapid.IntRange(1, 40).Draw(t2, "batch")
		cfg.InFlight = rapid.IntRange(0, 3).Draw(t2, "in flight")
		cfg.Mix = metatest.Shares{
			Messenger: float64(rapid.IntRange(0, 2).Draw(t2, "messenger")),
			Instagram: float64(rapid.IntRange(0, 2).Draw(t2, "instagram")),
			WhatsApp:  float64(rapid.IntRange(0, 2).Draw(t2, "whatsapp")),
		}
		cfg.Faults.Withheld, cfg.Faults.Transient = fraction.Draw(t2, "withheld"), fraction.Draw(t2, "transient")
		_, v := run(t, cfg, misbehaviour{})
		if !v.Clean() {
			t2.Fatalf("%q", v.Problems())
		}
	})
}

// breaches are the counters that must be zero, by their JSON names.
func breaches(t *testing.T, v metatest.Verdict) map[string]int {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, name := range []string{
		"unacked", "lost", "pending", "effects_doubled", "reordered", "unanswered", "sends_repeated_unexplained",
		"sends_out_of_order", "strays", "undelivered", "timers_early", "timers_doubled", "timers_after_cancel", "timers_missing",
	} {
		n, ok := all[name].(float64)
		if !ok {
			t.Fatalf("verdict has no number %s", name)
		}
		if n != 0 {
			found[name] = int(n)
		}
	}
	return found
}

// only is message k of one user.
func only(k int) func(int, int) bool {
	return func(u2, k2 int) bool { return u2 == 3 && k2 == k }
}

func TestEachBreachIsSeenAndOnlyIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		plant misbehaviour
		cfg   func(*metatest.Config)
		want  string
		count int // 0 = any
	}{
		"lost":                    {plant: misbehaviour{drop: only(4)}, want: "lost", count: 1},
		"never taken":             {plant: misbehaviour{drop: func(u, _ int) bool { return u == 3 }}, want: "pending", count: 15},
		"effect doubled":          {plant: misbehaviour{double: only(4)}, want: "effects_doubled", count: 1},
		"first effect doubled":    {plant: misbehaviour{double: only(1)}, want: "effects_doubled", count: 1},
		"duplicates taken as new": {plant: misbehaviour{forgetSeen: true}, cfg: withDuplicates, want: "effects_doubled"},
		"shared counter":          {plant: misbehaviour{oneCounter: true}, cfg: withoutTimers, want: "effects_doubled"},
		"reordered":               {plant: misbehaviour{swap: only(4)}, want: "reordered", count: 1},
		"never answered":          {plant: misbehaviour{hush: only(4)}, want: "unanswered", count: 1},
		"reply lost at an error":  {plant: misbehaviour{giveUp: func(_, k int) bool { return k < 15 }}, cfg: withErrors, want: "unanswered"},
		"sent twice":              {plant: misbehaviour{sendTwice: only(4)}, want: "sends_repeated_unexplained", count: 1},
		"sent in another order":   {plant: misbehaviour{swapSend: only(4)}, cfg: withoutTimers, want: "sends_out_of_order", count: 1},
		"never acknowledged":      {plant: misbehaviour{refuse: only(15)}, cfg: withoutTimers, want: "unacked"},
		"rings early":             {plant: misbehaviour{early: true}, want: "timers_early"},
		"rings twice":             {plant: misbehaviour{ringTwice: true}, want: "timers_doubled"},
		"rings after forget":      {plant: misbehaviour{deaf: true}, want: "timers_after_cancel"},
		"never rings":             {plant: misbehaviour{noRing: true}, want: "timers_missing"},
		"bsuid in to":             {plant: misbehaviour{bsuidInTo: true}, want: "undelivered"},
		"talks unasked":           {plant: misbehaviour{chatty: true}, want: "strays"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quiet()
			if test.cfg != nil {
				test.cfg(&cfg)
			}
			_, v := run(t, cfg, test.plant)
			found := breaches(t, v)
			if len(found) != 1 || found[test.want] == 0 || test.count != 0 && found[test.want] != test.count {
				t.Errorf("breaches %v; want %s: %d (0 = some) and no other\n%q", found, test.want, test.count, v.Problems())
			}
			if v.Clean() || len(v.Problems()) < 2 && test.want != "unacked" {
				t.Errorf("clean %v, problems %q; want them named", v.Clean(), v.Problems())
			}
		})
	}
}

func withDuplicates(c *metatest.Config) { c.Duplicates, c.Timers = 0.2, 0 }
func withoutTimers(c *metatest.Config)  { c.Timers = 0 }
func withErrors(c *metatest.Config)     { c.Faults.Transient, c.Timers = 0.05, 0 }

// TestSeveralBreaches holds bugs that break more than one promise.
func TestSeveralBreaches(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		plant misbehaviour
		want  string
	}{
		"ring before its reply":  {misbehaviour{ringFirst: true}, "sends_out_of_order"},
		"answers the wrong user": {misbehaviour{wrongTarget: true}, "strays"},
		"wrong token":            {misbehaviour{wrongToken: true}, "pending"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, v := run(t, quiet(), test.plant)
			if found := breaches(t, v); found[test.want] == 0 {
				t.Errorf("breaches %v; want %s among them", found, test.want)
			}
		})
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	t.Parallel()
	trace := func(seed uint64) (string, metatest.Verdict) {
		h := sha256.New()
		cfg := busy(seed)
		cfg.Duration = 2 * time.Second
		w := metatest.NewWorld(cfg)
		b := newBot(t, w, misbehaviour{})
		b.log = func(s string) { _, _ = h.Write([]byte(s)) }
		b.drive(30 * time.Second)
		return hex.EncodeToString(h.Sum(nil)), w.Verdict()
	}
	first, verdict := trace(5)
	second, again := trace(5)
	if first != second {
		t.Error("two runs of one seed differ in what they posted or answered")
	}
	if diff := cmp.Diff(verdict, again); diff != "" {
		t.Errorf("verdicts of one seed differ:\n%s", diff)
	}
	if other, _ := trace(6); other == first {
		t.Error("two seeds made the same run")
	}
}

func TestKilledExcusesWhatWasInFlight(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.Timers, cfg.AnswerMax = 0, -1
	w := metatest.NewWorld(cfg)
	b := newBot(t, w, misbehaviour{})
	now := cfg.Start
	var first *conversation
	for first == nil {
		for _, p := range w.Due(now) {
			w.Posted(p.ID, b.receive(p, now), now)
		}
		for _, c := range b.convs {
			first = c
		}
		now = now.Add(time.Millisecond)
	}
	again := func(now time.Time, opened time.Time) {
		req := b.request(first, "said 1 #1")
		req.Opened = opened
		if a := w.Graph(req, now); a.Status != 200 {
			t.Fatalf("status %d, want 200", a.Status)
		}
	}
	kill := now.Add(100 * time.Millisecond)
	w.Killed(kill)
	again(kill.Add(300*time.Millisecond), time.Time{})
	if v := w.Verdict(); v.SendsRepeated != 1 || v.SendsRepeatedUnexplained != 0 || v.Kills != 1 {
		t.Errorf("repeat after a kill: %d repeated, %d unexplained, %d kills; want 1, 0, 1", v.SendsRepeated, v.SendsRepeatedUnexplained, v.Kills)
	}
	kill = kill.Add(time.Second)
	w.Killed(kill)
	again(kill.Add(10*time.Millisecond), kill.Add(-time.Second))
	if v := w.Verdict(); v.SendsRepeatedUnexplained != 1 {
		t.Errorf("repeat by the dead process of a reply answered long before: %d unexplained, want 1", v.SendsRepeatedUnexplained)
	}
	again(kill.Add(400*time.Millisecond), kill.Add(300*time.Millisecond))
	if v := w.Verdict(); v.SendsRepeatedUnexplained != 1 {
		t.Errorf("repeat of what the dead process sent: %d unexplained, want 1", v.SendsRepeatedUnexplained)
	}
	again(kill.Add(500*time.Millisecond), kill.Add(300*time.Millisecond))
	if v := w.Verdict(); v.SendsRepeatedUnexplained != 2 {
		t.Errorf("repeat without a reason: %d unexplained, want 2", v.SendsRepeatedUnexplained)
	}
}

// An outage of the store alone excuses nothing; a kill before the node can have
// caught up excuses what was answered since the outage began.
func TestStoreDownExcusesOnlyWithAKill(t *testing.T) {
	t.Parallel()
	type moment struct {
		what string
		at   time.Duration // after the answer
	}
	for name, row := range map[string]struct {
		moments     []moment
		unexplained int
	}{
		"OutageAlone":        {[]moment{{"down", 100 * time.Millisecond}, {"up", time.Second}}, 1},
		"KillInTheOutage":    {[]moment{{"down", 100 * time.Millisecond}, {"kill", 2 * time.Second}}, 0},
		"KillSoonAfter":      {[]moment{{"down", 100 * time.Millisecond}, {"up", time.Second}, {"kill", 2 * time.Second}}, 0},
		"KillLongAfter":      {[]moment{{"down", 100 * time.Millisecond}, {"up", time.Second}, {"kill", 6 * time.Second}}, 1},
		"AnsweredLongBefore": {[]moment{{"down", time.Second}, {"kill", 2 * time.Second}}, 1},
		"TwoOutages":         {[]moment{{"down", 100 * time.Millisecond}, {"up", time.Second}, {"down", 2 * time.Second}, {"kill", 3 * time.Second}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quiet()
			cfg.Timers, cfg.AnswerMax = 0, -1
			w := metatest.NewWorld(cfg)
			b := newBot(t, w, misbehaviour{})
			now := cfg.Start
			for len(b.convs) == 0 {
				for _, p := range w.Due(now) {
					w.Posted(p.ID, b.receive(p, now), now)
				}
				now = now.Add(time.Millisecond)
			}
			for _, m := range row.moments {
				switch at := now.Add(m.at); m.what {
				case "down":
					w.StoreDown(at)
				case "up":
					w.StoreUp(at)
				case "kill":
					w.Killed(at)
				}
			}
			for _, c := range b.convs {
				w.Graph(b.request(c, "said 1 #1"), now.Add(7*time.Second))
				break
			}
			if v := w.Verdict(); v.SendsRepeated != 1 || v.SendsRepeatedUnexplained != row.unexplained {
				t.Errorf("%d repeated, %d unexplained; want 1, %d", v.SendsRepeated, v.SendsRepeatedUnexplained, row.unexplained)
			}
		})
	}
}

func TestRefusedPostsAreSentAgainLessAndLessOften(t *testing.T) {
	t.Parallel()
	cfg := metatest.Config{Start: start(), Rate: 1, Duration: time.Second, Users: 1}
	w := metatest.NewWorld(cfg)
	now, last, gap := cfg.Start, cfg.Start, time.Duration(-1)
	for attempt := range 9 {
		posts := w.Due(now)
		if len(posts) != 1 || posts[0].Attempt != attempt {
			t.Fatalf("attempt %d: got %d posts", attempt, len(posts))
		}
		if attempt >= 2 && attempt <= 6 && now.Sub(last) <= gap {
			t.Errorf("attempt %d came %s after the last, that one %s after its own", attempt, now.Sub(last), gap)
		}
		gap, last = now.Sub(last), now
		w.Posted(posts[0].ID, 503, now)
		next, ok := w.NextDue()
		if !ok || next.Sub(now) > 6*time.Second {
			t.Fatalf("next attempt: %v, %v", next.Sub(now), ok)
		}
		now = next
	}
	posts := w.Due(now)
	w.Posted(posts[0].ID, 200, now)
	if v := w.Verdict(); v.Acked != 1 || v.PostsRetried != 9 || v.Pending != 1 {
		t.Errorf("acked %d, retried %d, pending %d; want 1, 9, 1", v.Acked, v.PostsRetried, v.Pending)
	}
}

func TestUnansweredPostIsSentAgainAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	cfg := metatest.Config{Start: start(), Rate: 1, Duration: time.Second, Users: 1}
	w := metatest.NewWorld(cfg)
	first := w.Due(cfg.Start)
	next, ok := w.NextDue()
	if want := cfg.Start.Add(5 * time.Second); !ok || !next.Equal(want) {
		t.Fatalf("next due %v, %v; want %v", next, ok, want)
	}
	second := w.Due(next)
	if len(second) != 1 || !bytes.Equal(second[0].Body, first[0].Body) || second[0].ID != first[0].ID {
		t.Fatalf("got %d posts; want the same one again", len(second))
	}
}

func TestInFlightBoundsWhatIsHandedOut(t *testing.T) {
	t.Parallel()
	cfg := metatest.Config{Start: start(), Rate: 1000, Duration: time.Second, Users: 100, InFlight: 10}
	w := metatest.NewWorld(cfg)
	posts := w.Due(cfg.Start.Add(time.Second))
	if len(posts) != 10 {
		t.Fatalf("%d posts out, want 10", len(posts))
	}
	w.Posted(posts[0].ID, 200, cfg.Start.Add(time.Second))
	if more := w.Due(cfg.Start.Add(time.Second)); len(more) != 1 {
		t.Errorf("%d posts for one free slot, want 1", len(more))
	}
}

// TestLostUpdateIsNotTakenForAnEffect: an effect that was answered and then
// overwritten shows as two messages with the same N.
func TestStatesThatSplitOrGoBackAreSeen(t *testing.T) {
	t.Parallel()
	w := metatest.NewWorld(metatest.Config{Start: start(), Rate: 10, Duration: time.Second, Users: 1})
	b := newBot(t, w, misbehaviour{})
	now := start()
	for range 4 {
		for _, p := range w.Due(now) {
			messages, _, err := readWebhook(p.Body)
			if err != nil {
				t.Fatal(err)
			}
			b.conversation(messages[0])
			w.Posted(p.ID, 200, now)
		}
		now = now.Add(100 * time.Millisecond)
	}
	for _, c := range b.convs {
		for _, text := range []string{"said 1 #1", "said 2 #2", "said 3 #2", "said 4 #3"} {
			w.Graph(b.request(c, text), now)
		}
	}
	if found := breaches(t, w.Verdict()); found["effects_doubled"] != 1 || len(found) != 1 {
		t.Errorf("breaches %v; want effects_doubled: 1", found)
	}
}

// A repeated send is counted by its platform; and apart, if the sender had acknowledged
// a receipt by which it could have known.
func TestRepeatsThatAReceiptHadToldOf(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		mix    metatest.Shares
		status int // of the answers to receipts
		want   metatest.RepeatCounts
		told   int
	}{
		"Messenger":     {metatest.Shares{Messenger: 1}, 200, metatest.RepeatCounts{Messenger: 1}, 1},
		"Instagram":     {metatest.Shares{Instagram: 1}, 200, metatest.RepeatCounts{Instagram: 1}, 0},
		"WhatsApp":      {metatest.Shares{WhatsApp: 1}, 200, metatest.RepeatCounts{WhatsApp: 1}, 1},
		"NotYetArrived": {metatest.Shares{WhatsApp: 1}, 503, metatest.RepeatCounts{WhatsApp: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quiet()
			cfg.Timers, cfg.AnswerMax, cfg.Mix, cfg.Users, cfg.Rate, cfg.Duration = 0, -1, row.mix, 1, 1, time.Second
			cfg.Echoes, cfg.Statuses = true, true
			w := metatest.NewWorld(cfg)
			b := newBot(t, w, misbehaviour{})
			now, answered := cfg.Start, false
			for range 4000 {
				for _, p := range w.Due(now) {
					status := row.status
					if !answered {
						status = b.receive(p, now)
						answered = len(b.convs) > 0
					}
					w.Posted(p.ID, status, now)
				}
				now = now.Add(time.Millisecond)
			}
			for _, c := range b.convs {
				if a := w.Graph(b.request(c, "said 1 #1"), now); a.Status != 200 {
					t.Fatalf("status %d", a.Status)
				}
			}
			if v := w.Verdict(); v.SendsRepeated != 1 || v.SendsRepeatedOn != row.want || v.SendsRepeatedTold != row.told {
				t.Errorf("%d repeated, %+v, %d told; want %+v, %d", v.SendsRepeated, v.SendsRepeatedOn, v.SendsRepeatedTold, row.want, row.told)
			}
		})
	}
}
