package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runAudit(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"AppendCountsWhatItIsGiven":            auditAppend,
		"WhatIsRefusedIsNotCounted":            auditRefused,
		"TurnCountsWhatBecameOfEachEvent":      auditTurn,
		"ConflictCountsNothing":                auditConflict,
		"OfOwnMakingIsNotCounted":              auditOwn,
		"MergeCountsNothing":                   auditMerge,
		"LettersRetriedAndDropped":             auditLetters,
		"KeptInputThatIsBuried":                auditBuriedLater,
		"FoldCountsReceipts":                   auditFold,
		"OthersEchoBecomesAnEvent":             auditEcho,
		"ReleaseCountsWhatEntriesBecame":       auditRelease,
		"EachBucketAddsUp":                     auditBuckets,
		"OldBucketsBecomeOne":                  auditTidy,
		"AcceptedEventsAreListed":              auditAccepted,
		"SettledBucketsAreForgotten":           auditSettled,
		"BooksOpenWithWhatIsThere":             auditOpening,
		"BooksOpenOnce":                        auditOpenOnce,
		"CountsStay":                           auditReopen,
		"OneMomentAmidEverything":              auditAmidEverything,
		"OpeningAmidEverythingStillAddsUp":     auditOpeningAmidEverything,
		"LostLetterIsMissed":                   auditLostLetter,
		"MoreThanWasAcknowledgedIsNoticed":     auditTooMuch,
		"BrandsAndSortsAreCountedByThemselves": auditBrands,
	})
}

func (d *desk) ledger() parley.Ledger {
	d.t.Helper()
	g, err := d.Ledger(d.t.Context())
	if err != nil {
		d.t.Fatalf("ledger: %v", err)
	}
	g.Compact(d.tidied)
	return g
}

// addsUp expects that each line does, and no dead letter is missing.
func (d *desk) addsUp() *parley.Ledger {
	d.t.Helper()
	g := d.ledger()
	for _, problem := range problemsOf(&g) {
		d.t.Errorf("%s", problem)
	}
	return &g
}

func problemsOf(g *parley.Ledger) (all []string) {
	brands := map[parley.Brand]bool{}
	for i := range g.Lines {
		l := &g.Lines[i]
		brands[l.Brand] = true
		if n := l.Missing(); n != 0 {
			all = append(all, fmt.Sprintf("%d missing: %+v", n, *l))
		}
	}
	for b := range brands {
		if n := g.MissingLetters(b); n != 0 {
			all = append(all, fmt.Sprintf("%d letters of %s missing: %+v", n, b, g.Lines))
		}
	}
	return all
}

// counts expects what all lines of a sort add up to, and that they do.
func (d *desk) counts(sort parley.AuditSort, want parley.AuditTerms) {
	d.t.Helper()
	g := d.addsUp()
	d.same("counts", g.Sum(func(l *parley.AuditLine) bool { return l.Sort == sort }), want)
}

// listener is a bot that says nothing.
func listener() *parley.Bot {
	return &parley.Bot{Name: "listener", Version: 1, Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
}

// moody is a listener whose turn fails at the word "fail".
func moody() *parley.Bot {
	bot := listener()
	bot.Behavior = parley.BehaviorFunc(func(t *parley.Turn) error {
		if m, ok := t.Input().(parley.Message); ok && m.Text == "fail" {
			return errors.New("as it was told")
		}
		return nil
	})
	return bot
}

func auditAppend(_ *testing.T, d *desk) {
	d.counts(parley.AuditEvents, parley.AuditTerms{})
	e := d.event(conv("a"), "x")
	d.append(e, d.event(conv("b"), "x"), e)
	d.append(e)
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 4, Pending: 4})
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: "1"}, parley.Receipt{Status: parley.StatusRead, ProviderID: "2"})
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 2, Pending: 2})
	quarKeep(d, quarEntry("one"))
	d.counts(parley.AuditBodies, parley.AuditTerms{Acknowledged: 1, Quarantined: 1})
}

func auditRefused(t *testing.T, d *desk) {
	bad := d.event(conv("a"), "x")
	bad.Contacts = nil
	if _, err := d.Append(t.Context(), parley.Arrivals{Events: []parley.Event{d.event(conv("a"), "x"), bad}}); err == nil {
		t.Fatal("an event without a contact was appended")
	}
	d.counts(parley.AuditEvents, parley.AuditTerms{})
}

func auditTurn(_ *testing.T, d *desk) {
	e := d.event(conv("a"), "x")
	d.append(e, e, d.event(conv("a"), "fail"), d.event(conv("a"), "y"))
	d.think(moody(), conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 4, Effected: 2, Duplicate: 1, Dead: 1})
	d.append(e)
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 5, Effected: 2, Duplicate: 1, Dead: 1, Pending: 1})
	d.think(moody(), conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 5, Effected: 2, Duplicate: 2, Dead: 1})
}

func auditConflict(_ *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	d.say(conv("b"), "x")
	other := d.turn(d.load(conv("b")))
	d.commit(turn)
	errs := d.tryCommit(turn, other)
	if !errors.Is(errs[0], parley.ErrConflict) || errs[1] != nil {
		d.t.Fatalf("commits: %v", errs)
	}
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 2, Effected: 2})
}

func auditOwn(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	d.think(setting(listener(), "ring", time.Minute), conv("a"))
	d.clock.Add(2 * time.Minute)
	if rows, _, err := d.FireTimers(t.Context(), all, 10, time.Hour); err != nil || len(rows) != 1 {
		t.Fatalf("fired %v: %v", rows, err)
	}
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 1, Effected: 1})
	d.think(listener(), conv("a"))
	l, out := d.handOver("x")
	d.receive(parley.Receipt{Status: parley.StatusFailed, ProviderID: sent(out).ProviderID, Code: 131026})
	if rows := d.fold(l, 10, 1); len(rows) != 1 {
		t.Fatalf("%d failures told, want 1", len(rows))
	}
	d.think(listener(), conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 1, Effected: 1})
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 1, Effected: 1})
}

func auditMerge(_ *testing.T, d *desk) {
	strangers(d)
	before := d.addsUp()
	d.say(younger(), "y")
	row := meet(d, older().Contact, younger().Contact)
	d.same("the row", row.Conversation, older())
	after := d.addsUp()
	d.same("acknowledged by a merge", after.Sum(nil).Acknowledged, before.Sum(nil).Acknowledged+2)
	d.think(listener(), older())
	d.same("pending", d.addsUp().Sum(nil).Pending, int64(0))
}

func auditLetters(t *testing.T, d *desk) {
	d.append(d.event(conv("a"), "fail"), d.event(conv("a"), "fail"), d.event(conv("a"), "fail"))
	d.think(moody(), conv("a"))
	letters := d.letters(parley.DeadQuery{})
	d.clock.Add(3 * parley.AuditBucket)
	d.retry(letters[0].ID)
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 3, Dead: 2, Pending: 1})
	d.think(listener(), conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 3, Dead: 2, Effected: 1})
	if _, err := d.DropDeadLetter(t.Context(), letters[1].ID); err != nil {
		t.Fatal(err)
	}
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 3, Dead: 2, Dropped: 1, Effected: 1})
	d.refuse(conv("b"), d.lease("s", parley.Lease{}), "a message that is refused is no event")
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 3, Dead: 2, Dropped: 1, Effected: 1})
}

// auditBuriedLater: what a bot keeps has taken effect, until the bot gives it up.
func auditBuriedLater(_ *testing.T, d *desk) {
	kept := d.say(conv("a"), "keep")
	d.think(listener(), conv("a"))
	bot := *listener()
	bot.Behavior = parley.BehaviorFunc(func(t *parley.Turn) error {
		t.Bury(kept.Data, errors.New("too late"))
		return nil
	})
	d.clock.Add(2 * parley.AuditBucket)
	d.say(conv("a"), "x")
	d.think(&bot, conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 2, Effected: 1, Dead: 1})
	d.retry(d.letters(parley.DeadQuery{})[0].ID)
	d.think(listener(), conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 2, Effected: 2})
}

func auditFold(_ *testing.T, d *desk) {
	for i := range 5 {
		d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: fmt.Sprint("mid", i)})
	}
	l := d.lease("s", parley.Lease{})
	d.fold(l, 2, 2)
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 5, Effected: 2, Pending: 3})
	d.fold(l, 10, 3)
	d.fold(l, 10, 0)
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 5, Effected: 5})
}

func auditEcho(_ *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	d.receive(d.echo(conv("a"), "mid.1", "I take over"), parley.Receipt{Status: parley.StatusRead, ProviderID: "mid.2"})
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 2, Pending: 2})
	d.hears(l, 2, 0, "I take over")
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 1, Effected: 1})
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 1, Pending: 1})
	d.think(listener(), conv("a"))
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 1, Effected: 1})
}

func auditRelease(t *testing.T, d *desk) {
	quarKeep(d, quarEntry("one"), quarEntry("two"))
	found := quarRead(d, parley.ID{}, 10)
	d.clock.Add(3 * parley.AuditBucket)
	arrivals := parley.Arrivals{
		Events:   []parley.Event{d.event(conv("a"), "x"), d.event(conv("a"), "y")},
		Receipts: []parley.Receipt{{Channel: page(), Status: parley.StatusRead, ProviderID: "1"}},
	}
	if _, err := d.Release(t.Context(), []parley.ID{found[0].ID}, arrivals); err != nil {
		t.Fatal(err)
	}
	d.counts(parley.AuditBodies, parley.AuditTerms{Acknowledged: 1, Quarantined: 1})
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 2, Pending: 2})
	d.counts(parley.AuditReceipts, parley.AuditTerms{Acknowledged: 1, Pending: 1})
	if _, err := d.Release(t.Context(), []parley.ID{found[0].ID}, arrivals); !errors.Is(err, parley.ErrConflict) {
		t.Fatalf("released twice: %v", err)
	}
	d.counts(parley.AuditBodies, parley.AuditTerms{Acknowledged: 1, Quarantined: 1})
	d.counts(parley.AuditEvents, parley.AuditTerms{Acknowledged: 2, Pending: 2})
	if _, err := d.Release(t.Context(), []parley.ID{found[1].ID}, parley.Arrivals{}); err != nil {
		t.Fatal(err)
	}
	d.counts(parley.AuditBodies, parley.AuditTerms{})
}

// auditBuckets: what is counted of an event is counted when it was accepted, however
// much later it takes effect.
func auditBuckets(_ *testing.T, d *desk) {
	first := d.say(conv("a"), "x")
	d.clock.Add(parley.AuditBucket)
	second := d.say(conv("b"), "x")
	d.think(listener(), conv("a"))
	in := func(p parley.Pending) parley.AuditTerms {
		g := d.addsUp()
		return g.Sum(func(l *parley.AuditLine) bool { return l.Bucket == parley.BucketOf(p.Received) })
	}
	d.same("first", in(first), parley.AuditTerms{Acknowledged: 1, Effected: 1})
	d.same("second", in(second), parley.AuditTerms{Acknowledged: 1, Pending: 1})
	if parley.BucketOf(first.Received) == parley.BucketOf(second.Received) {
		d.t.Fatal("both are in one bucket")
	}
}

func (d *desk) tidy(before int64, settled ...int64) {
	d.t.Helper()
	if err := d.TidyBooks(d.t.Context(), settled, before); err != nil {
		d.t.Fatalf("tidy: %v", err)
	}
	d.tidied = before
}

func auditTidy(_ *testing.T, d *desk) {
	var rows []parley.Pending
	for i := range 4 {
		rows = append(rows, d.say(conv(fmt.Sprint(i)), "x"))
		d.think(listener(), conv(fmt.Sprint(i)))
		d.clock.Add(parley.AuditBucket)
	}
	d.tidy(parley.BucketOf(rows[2].Received))
	g := d.addsUp()
	var got []int64
	for i := range g.Lines {
		got = append(got, g.Lines[i].Bucket)
	}
	d.same("buckets", got, []int64{parley.BucketBefore, parley.BucketOf(rows[2].Received), parley.BucketOf(rows[3].Received)})
	d.same("sum", g.Sum(nil), parley.AuditTerms{Acknowledged: 4, Effected: 4})
}

func (d *desk) accepted(bucket int64) (all []parley.Accepted) {
	d.t.Helper()
	err := d.Accepted(d.t.Context(), bucket, func(some []parley.Accepted) bool {
		all = append(all, some...)
		return true
	})
	if err != nil {
		d.t.Fatalf("accepted: %v", err)
	}
	return all
}

func acceptedAs(rows ...parley.Pending) (all []parley.Accepted) {
	for _, p := range rows {
		all = append(all, parley.Accepted{Conversation: p.Conversation, Key: p.Key, Token: p.Token})
	}
	return all
}

func auditAccepted(t *testing.T, d *desk) {
	rows := d.append(d.event(conv("a"), "x"), d.event(conv("b"), "x"), d.event(conv(odd), "x"))
	rows = append(rows, d.say(conv("a"), "y"))
	d.think(listener(), conv("a"))
	bucket := parley.BucketOf(rows[0].Received)
	d.same("accepted", d.accepted(bucket), acceptedAs(rows...))
	d.same("of another time", d.accepted(bucket+1), []parley.Accepted(nil))
	seen := 0
	err := d.Accepted(t.Context(), bucket, func(some []parley.Accepted) bool {
		seen++
		return false
	})
	if err != nil || seen != 1 {
		t.Fatalf("asked on %d times after enough: %v", seen, err)
	}
}

func auditSettled(_ *testing.T, d *desk) {
	first := d.say(conv("a"), "x")
	d.clock.Add(parley.AuditBucket)
	second := d.say(conv("a"), "x")
	d.clock.Add(parley.AuditBucket)
	third := d.say(conv("a"), "x")
	d.tidy(parley.BucketOf(first.Received), parley.BucketOf(second.Received))
	d.same("first", d.accepted(parley.BucketOf(first.Received)), acceptedAs(first))
	d.same("settled", d.accepted(parley.BucketOf(second.Received)), []parley.Accepted(nil))
	d.same("third", d.accepted(parley.BucketOf(third.Received)), acceptedAs(third))
	d.tidy(parley.BucketOf(third.Received))
	d.same("long ago", d.accepted(parley.BucketOf(first.Received)), []parley.Accepted(nil))
	d.addsUp()
}

// uncounted writes as a program does that doesn't count.
func (d *desk) uncounted() {
	d.t.Helper()
	d.say(conv("u"), "x")
	turn := d.turn(d.load(conv("u")))
	turn.Postings = nil
	turn.Dead = []parley.DeadLetter{{ID: d.id(), Conversation: conv("u"), At: d.clock.Now(), Seq: turn.Through, Data: []byte(`{"kind":"message","input":{}}`)}}
	d.commit(turn)
}

func (d *desk) openBooks() {
	d.t.Helper()
	if err := d.OpenBooks(d.t.Context(), d.ledger()); err != nil {
		d.t.Fatalf("open books: %v", err)
	}
}

func auditOpening(t *testing.T, d *desk) {
	if d.ledger().Opened.IsZero() {
		t.Error("the books of a new store are not open")
	}
	if err := d.CloseBooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := d.ledger(); !g.Opened.IsZero() {
		t.Errorf("closed books are open since %s", g.Opened)
	}
	d.uncounted()
	d.say(conv("a"), "x")
	d.clock.Add(time.Second)
	d.openBooks()
	g := d.addsUp()
	d.same("opened", g.Opened, d.clock.Now())
	d.same("counts", g.Sum(nil), parley.AuditTerms{Acknowledged: 2, Pending: 1, Dead: 1})
	d.think(listener(), conv("a"))
	d.retry(d.letters(parley.DeadQuery{})[0].ID)
	d.addsUp()
}

func auditOpenOnce(t *testing.T, d *desk) {
	if err := d.CloseBooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.uncounted()
	as := d.ledger()
	if err := d.OpenBooks(t.Context(), as); err != nil {
		t.Fatal(err)
	}
	if err := d.OpenBooks(t.Context(), as); !errors.Is(err, parley.ErrConflict) {
		t.Fatalf("opened twice: %v", err)
	}
	d.addsUp()
}

func auditReopen(_ *testing.T, d *desk) {
	e := d.event(conv("a"), "x")
	rows := d.append(e, e, d.event(conv("a"), "fail"), d.event(conv("b"), "y"))
	d.think(moody(), conv("a"))
	quarKeep(d, quarEntry("one"))
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: "1"})
	before := d.addsUp()
	d.reopen()
	after := d.addsUp()
	d.same("lines", after.Lines, before.Lines)
	d.same("opened", after.Opened, before.Opened)
	d.same("accepted", d.accepted(parley.BucketOf(rows[0].Received)), acceptedAs(rows...))
	d.say(conv("a"), "z")
	d.think(moody(), conv("a"))
	d.addsUp()
}

// auditAmidEverything: while all workers append and take turns, each ledger adds up.
func auditAmidEverything(t *testing.T, d *desk) {
	stop, looked := d.watch(problemsOf)
	d.busy()
	stop()
	if looked() < 3 {
		t.Errorf("looked %d times only", looked())
	}
	d.same("counts", d.addsUp().Sum(nil).Pending, int64(0))
}

// watch looks at the ledger again and again, until stop is called.
func (d *desk) watch(look func(*parley.Ledger) []string) (stop func(), looked func() int64) {
	ctx, cancel := context.WithCancel(d.t.Context())
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			g, err := d.Ledger(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				d.t.Errorf("ledger: %v", err)
				return
			}
			n.Add(1)
			if problems := look(&g); len(problems) > 0 {
				d.t.Errorf("at a moment amid it: %v", problems)
				return
			}
		}
	}()
	return func() { cancel(); <-done }, n.Load
}

// busy has all workers append and take turns of the same conversations.
func (d *desk) busy() {
	d.t.Helper()
	d.together(func(ctx context.Context, w int, own *desk) error {
		bot := moody()
		for i := range 15 {
			c := conv(fmt.Sprint((w + i) % 3))
			e := own.event(c, []string{"x", "fail", "y"}[i%3])
			if _, err := own.Append(ctx, parley.Arrivals{Events: []parley.Event{e, e}, Receipts: []parley.Receipt{{Channel: page(), Status: parley.StatusRead, ProviderID: "1"}}}); err != nil {
				return err
			}
			if err := own.tryTurn(ctx, bot, c); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 3 {
		d.think(moody(), conv(fmt.Sprint(i)))
	}
	d.foldAll(d.lease("s", parley.Lease{}))
}

// tryTurn takes a turn, unless another is faster.
func (d *desk) tryTurn(ctx context.Context, bot *parley.Bot, c parley.Conversation) error {
	l, err := d.Load(ctx, c, parley.MaxPendingPerTurn)
	if err != nil || len(l.Pending) == 0 {
		return err
	}
	var keys []parley.EventKey
	for _, p := range l.Pending {
		keys = append(keys, p.Key)
	}
	seen, err := d.Older(ctx, c, keys)
	if err != nil {
		return err
	}
	errs, err := d.Commit(ctx, []parley.Commit{parley.Step(bot, l.Snapshot, l.Pending, parley.Circumstance{Nonce: d.nonce(), Older: seen})})
	if err == nil && errs[0] != nil && !errors.Is(errs[0], parley.ErrConflict) {
		err = errs[0]
	}
	return err
}

// auditOpeningAmidEverything: the books may be opened while all go on writing.
func auditOpeningAmidEverything(t *testing.T, d *desk) {
	if err := d.CloseBooks(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.uncounted()
	opened := make(chan error, 1)
	go func() {
		as, err := d.Ledger(t.Context())
		if err == nil {
			err = d.OpenBooks(t.Context(), as)
		}
		opened <- err
	}()
	d.busy()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	d.addsUp()
}

// auditLostLetter: a letter that isn't there any more, as if it had been deleted by
// hand, is one that was counted and isn't there.
func auditLostLetter(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	turn.Postings[0].Effected--
	turn.Postings[0].Dead++ // and no letter
	d.commit(turn)
	g := d.ledger()
	d.same("missing letters", g.MissingLetters("acme"), int64(1))
	d.same("missing", g.Sum(nil).Missing, int64(0))
	d.openBooks()
	d.addsUp()
	if len(d.letters(parley.DeadQuery{})) != 0 {
		t.Error("there is a letter")
	}
}

func auditTooMuch(_ *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	turn.Postings[0].Effected += 2
	d.commit(turn)
	g := d.ledger()
	d.same("excess", g.Sum(nil).Excess, int64(2))
}

func auditBrands(_ *testing.T, d *desk) {
	other := conv("a")
	other.Channel.Brand = "other"
	d.append(d.event(conv("a"), "x"), d.event(other, "x"), d.event(other, "x"))
	d.receive(parley.Receipt{Channel: other.Channel, Status: parley.StatusRead, ProviderID: "1"})
	quarKeep(d, quarEntry("one"))
	g := d.addsUp()
	for brand, want := range map[parley.Brand]int64{"acme": 1, "other": 3, "": 1} {
		d.same(string("acknowledged of "+brand), g.Sum(func(l *parley.AuditLine) bool { return l.Brand == brand }).Acknowledged, want)
	}
	if !slices.IsSortedFunc(g.Lines, func(a, b parley.AuditLine) int { return a.Of().Compare(b.Of()) }) {
		d.t.Errorf("lines are not in order: %+v", g.Lines)
	}
}
