package audit_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/audit"
	"github.com/parleychat/parley/persistence/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a store with an auditor, and a clock that is set by hand.
type scene struct {
	*memory.Store
	t      *testing.T
	now    time.Time
	n      int
	absent []string
	log    bytes.Buffer
	counts *prometheus.Registry
	*audit.Auditor
}

func setup(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), counts: prometheus.NewRegistry()}
	clock := func() time.Time { return s.now }
	s.Store = memory.New(memory.Config{Now: clock})
	s.Auditor = audit.New(audit.Config{
		Store: s.Store, Now: clock, Absent: func() []string { return s.absent }, Settle: time.Minute, Spooled: func(context.Context) (int, []string) { return 3, []string{"mute"} },
		Logger: slog.New(slog.NewTextHandler(&s.log, nil)), Registerer: s.counts,
	})
	return s
}

func talk(brand parley.Brand, contact string) parley.Conversation {
	return parley.Conversation{
		Channel: parley.Channel{Brand: brand, Kind: parley.Messenger, ID: "page"}, Contact: parley.Contact(parley.UserKey + contact),
	}
}

func (s *scene) say(c parley.Conversation) parley.Event {
	s.t.Helper()
	s.n++
	e := parley.Event{
		Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(fmt.Sprint(s.n)),
		Time: s.now, Input: parley.Message{ID: fmt.Sprint(s.n), Text: "a secret of somebody's"},
	}
	s.append(e)
	return e
}

func (s *scene) append(e parley.Event) {
	s.t.Helper()
	if _, err := s.Append(s.t.Context(), parley.Arrivals{Events: []parley.Event{e}}); err != nil {
		s.t.Fatal(err)
	}
}

// turn takes all that is pending of c; spoil may change what is committed.
func (s *scene) turn(c parley.Conversation, spoil func(*parley.Commit)) {
	s.t.Helper()
	loaded, err := s.Load(s.t.Context(), c, 100)
	if err != nil {
		s.t.Fatal(err)
	}
	s.n++
	bot := &parley.Bot{Name: "deaf", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
	commit := parley.Step(bot, loaded.Snapshot, loaded.Pending, parley.Circumstance{Nonce: [16]byte{byte(s.n), byte(s.n >> 8)}})
	if spoil != nil {
		spoil(&commit)
	}
	if errs, err := s.Commit(s.t.Context(), []parley.Commit{commit}); err != nil || errs[0] != nil {
		s.t.Fatalf("commit: %v %v", errs, err)
	}
}

// unheard is a commit that consumes rows, and nothing else of them.
func unheard(c *parley.Commit) { c.Next.Seen, c.Postings = nil, nil }

func (s *scene) account(since time.Duration) parley.Account {
	s.t.Helper()
	a, err := s.Account(s.t.Context(), since)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *scene) look() {
	s.t.Helper()
	if err := s.Look(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// gauge reads a metric.
func (s *scene) gauge(name string) float64 {
	s.t.Helper()
	families, err := s.counts.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

func named(c parley.Conversation, e parley.Event, at time.Time) parley.LostEvent {
	return parley.LostEvent{Conversation: c.String(), Key: hex.EncodeToString(e.Key[:]), Accepted: parley.BucketBegin(parley.BucketOf(at))}
}

func TestItAddsUp(t *testing.T) {
	t.Parallel()
	s := setup(t)
	e := s.say(talk("acme", "a"))
	s.append(e)
	s.say(talk("other", "b"))
	s.turn(talk("acme", "a"), nil)
	s.look()
	a := s.account(0)
	if diff := cmp.Diff([]string{"mute"}, a.Silent); diff != "" {
		t.Errorf("silent (-want +got):\n%s", diff)
	}
	want := parley.AuditTerms{Acknowledged: 6, Effected: 1, Duplicate: 1, Pending: 1, Spooled: 3}
	if diff := cmp.Diff(want, a.Whole); diff != "" || !a.AddsUp {
		t.Errorf("adds up: %v; whole (-want +got):\n%s", a.AddsUp, diff)
	}
	brands := []parley.BrandAudit{
		{Brand: "acme", AuditTerms: parley.AuditTerms{Acknowledged: 2, Effected: 1, Duplicate: 1}},
		{Brand: "other", AuditTerms: parley.AuditTerms{Acknowledged: 1, Pending: 1}},
	}
	if diff := cmp.Diff(brands, a.Brands); diff != "" {
		t.Errorf("brands (-want +got):\n%s", diff)
	}
	if s.gauge("parley_audit_missing") != 0 || s.gauge("parley_audit_open") != 1 || strings.Contains(s.log.String(), "ERROR") {
		t.Errorf("it says that it doesn't: %s", s.log.String())
	}
}

// TestLostEventsAreNamed: an event that no turn has met, and that is not there any
// more, among others that took effect, wait, were repeated or had their key evicted.
func TestLostEventsAreNamed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	lost := s.say(talk("acme", "a"))
	accepted := s.now
	s.turn(talk("acme", "a"), unheard)
	for range 2 * parley.InlineSeen {
		s.say(talk("acme", "a"))
	}
	s.turn(talk("acme", "a"), nil)
	e := s.say(talk("acme", "b"))
	s.append(e)
	s.turn(talk("acme", "b"), nil)
	s.say(talk("acme", "c"))
	s.say(talk("other", "d"))
	s.look()
	a := s.account(0)
	if diff := cmp.Diff([]parley.LostEvent{named(talk("acme", "a"), lost, accepted)}, a.Lost); diff != "" || a.AddsUp || a.Unnamed != 0 || a.Whole.Missing != 1 {
		t.Errorf("adds up: %v, missing %d, unnamed %d; lost (-want +got):\n%s", a.AddsUp, a.Whole.Missing, a.Unnamed, diff)
	}
	if a.Brands[0].Missing != 1 || a.Brands[1].Missing != 0 {
		t.Errorf("brands: %+v", a.Brands)
	}
	if s.gauge("parley_audit_missing") != 1 {
		t.Error("the metric doesn't say so")
	}
	s.look()
	said := s.log.String()
	if strings.Count(said, "ERROR") != 1 || !strings.Contains(said, hex.EncodeToString(lost.Key[:])) || strings.Contains(said, "secret") {
		t.Errorf("the log doesn't name it once, or has more of it than that:\n%s", said)
	}
}

// TestLostStaysNamed: what is missing isn't forgotten with what is settled, and
// reopening the books forgives it.
func TestLostStaysNamed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	lost := s.say(talk("acme", "a"))
	accepted := s.now
	s.turn(talk("acme", "a"), unheard)
	for range 5 {
		s.now = s.now.Add(parley.AuditBucket)
		s.look()
	}
	if a := s.account(0); len(a.Lost) != 1 || a.Lost[0] != named(talk("acme", "a"), lost, accepted) {
		t.Errorf("lost: %+v", a.Lost)
	}
	if a := s.account(parley.AuditBucket); a.Whole.Missing != 0 || !a.AddsUp {
		t.Errorf("of the last minutes: %+v", a.Whole)
	}
	was, err := s.Reopen(t.Context())
	if err != nil || was.Whole.Missing != 1 {
		t.Fatalf("reopen: %+v: %v", was.Whole, err)
	}
	s.look()
	if a := s.account(0); !a.AddsUp {
		t.Errorf("after it was forgiven: %+v", a.Whole)
	}
	if !strings.Contains(s.log.String(), "adds up again") {
		t.Errorf("the log doesn't say so:\n%s", s.log.String())
	}
}

// TestOnlyACountIsWrong: nothing is lost, and so nothing is named.
func TestOnlyACountIsWrong(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*parley.Commit){
		"too little": func(c *parley.Commit) { c.Postings[0].Effected-- },
		"too much":   func(c *parley.Commit) { c.Postings[0].Effected++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.say(talk("acme", "a"))
			s.turn(talk("acme", "a"), spoil)
			a := s.account(0)
			if a.AddsUp || len(a.Lost) > 0 || a.Whole.Missing+a.Whole.Excess != 1 || a.Unnamed != a.Whole.Missing {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestMissingAndExcessDontMakeUpForEachOther: of two brands, and of two stretches.
func TestMissingAndExcessDontMakeUpForEachOther(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.say(talk("acme", "a"))
	s.turn(talk("acme", "a"), func(c *parley.Commit) { c.Postings[0].Effected-- })
	s.now = s.now.Add(parley.AuditBucket)
	s.say(talk("acme", "a"))
	s.turn(talk("acme", "a"), func(c *parley.Commit) { c.Postings[0].Effected++ })
	if a := s.account(0); a.AddsUp || a.Whole.Missing != 1 || a.Whole.Excess != 1 {
		t.Errorf("%+v", a.Whole)
	}
}

// TestSettledIsForgotten: the list of what was accepted stays while something waits.
func TestSettledIsForgotten(t *testing.T) {
	t.Parallel()
	s := setup(t)
	listed := func(at time.Time) (n int) {
		err := s.Accepted(t.Context(), parley.BucketOf(at), func(some []parley.Accepted) bool { n += len(some); return true })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	began := s.now
	s.say(talk("acme", "a"))
	s.now = s.now.Add(3 * parley.AuditBucket)
	s.look()
	if listed(began) != 1 {
		t.Error("forgotten while it waits")
	}
	s.turn(talk("acme", "a"), nil)
	s.look()
	if listed(began) != 0 {
		t.Error("kept after it has settled")
	}
}

// TestBooksCloseWhileSomebodyDoesntCount, and open when all have counted for a while.
func TestBooksCloseWhileSomebodyDoesntCount(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.look()
	s.absent = []string{"old"}
	s.look()
	s.say(talk("acme", "a"))
	s.turn(talk("acme", "a"), unheard) // as a program of before does
	a := s.account(0)
	if a.Opened != nil || a.AddsUp || !strings.Contains(a.Why, "old") || s.gauge("parley_audit_open") != 0 {
		t.Errorf("while somebody doesn't count: %+v", a)
	}
	s.absent = nil
	s.look()
	s.now = s.now.Add(59 * time.Second)
	s.look()
	if a := s.account(0); a.Opened != nil || a.Why == "" {
		t.Errorf("opened too early: %+v", a)
	}
	s.now = s.now.Add(time.Second)
	s.look()
	if a := s.account(0); a.Opened == nil || !a.AddsUp {
		t.Errorf("not opened: %+v", a)
	}
	if strings.Contains(s.log.String(), "ERROR") {
		t.Errorf("an alarm:\n%s", s.log.String())
	}
}

// silent is a store that doesn't answer.
type silent struct{ audit.Store }

func (silent) Ledger(context.Context) (parley.Ledger, error) {
	return parley.Ledger{}, parley.ErrUnavailable
}

func TestStoreIsAway(t *testing.T) {
	t.Parallel()
	a := audit.New(audit.Config{Store: silent{}})
	if err := a.Look(t.Context()); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("look: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
}

// TestReceiptsAreAClass: they are counted apart, with what waits, is folded and is gone.
func TestReceiptsAreAClass(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.say(talk("acme", "a"))
	ch := talk("acme", "a").Channel
	receipts := make([]parley.Receipt, 5)
	for i := range receipts {
		receipts[i] = parley.Receipt{Channel: ch, Status: parley.StatusRead, ProviderID: fmt.Sprint(i)}
	}
	if _, err := s.Append(t.Context(), parley.Arrivals{Receipts: receipts}); err != nil {
		t.Fatal(err)
	}
	l, err := s.Lease(t.Context(), ch, "sender", time.Hour, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fold(t.Context(), l, 3); err != nil {
		t.Fatal(err)
	}
	a := s.account(0)
	if want := (parley.AuditTerms{Acknowledged: 5, Effected: 3, Pending: 2}); a.Receipts != want || !a.AddsUp || a.Whole.Pending != 3 {
		t.Errorf("receipts %+v, want %+v; the whole %+v", a.Receipts, want, a.Whole)
	}
	if a := s.account(time.Hour); a.Receipts != (parley.AuditTerms{}) || a.Whole.Pending != 1 {
		t.Errorf("of the last hour: receipts %+v, the whole %+v", a.Receipts, a.Whole)
	}
}
