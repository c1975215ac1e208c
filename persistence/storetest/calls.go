package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parleychat/parley"
)

func runCalls(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"ClaimedAsCommitted":            callsClaimedAsCommitted,
		"ARefusedCommitCallsNobody":     callsOfARefusedCommit,
		"ClaimedOncePerLease":           callsClaimedOncePerLease,
		"AnEndedClaimCountsNoMore":      callsEndedClaim,
		"AnsweredOnce":                  callsAnsweredOnce,
		"AnswersComeBehindWhatWasThere": callsAnswersInOrder,
		"LaterAndCounted":               callsLater,
		"OldestFirst":                   callsOldestFirst,
		"ServicesApart":                 callsServicesApart,
		"OthersLater":                   callsOthersLater,
		"ToldWhenToComeAgain":           callsWait,
		"CancelledIsNotMade":            callsCancelled,
		"AnswerOfACancelledIsLost":      callsCancelledWhileClaimed,
		"AnswersGoWhereItWasMerged":     callsMerged,
		"GivenBackForWhoIsLost":         callsGivenBack,
		"SurviveReopen":                 callsReopened,
		"OfAnySize":                     callsOfAnySize,
		"AnsweredOnceByMany":            callsAnsweredOnceByMany,
		"AnsweredOrCancelled":           callsAnsweredOrCancelled,
	})
}

const (
	callLease  = 20 * time.Second
	oneService = "crm"
)

// calls makes one turn of c that calls a service, once for each name.
func (d *desk) calls(c parley.Conversation, service string, names ...string) []parley.OutgoingCall {
	d.t.Helper()
	turn := d.turn(d.load(c))
	out := d.addCalls(&turn, service, names...)
	d.commit(turn)
	return out
}

func (d *desk) addCalls(c *parley.Commit, service string, names ...string) []parley.OutgoingCall {
	for _, name := range names {
		c.Calls = append(c.Calls, parley.OutgoingCall{
			ID: d.id(), Conversation: c.Conversation, At: d.clock.Now(),
			Call: parley.Call{
				Name: name, Service: service, Method: "PUT", Path: "/orders/7?full=1", Body: json.RawMessage(`{"a":"\u0000"}`), Within: time.Minute,
			},
		})
		last := c.Calls[len(c.Calls)-1]
		c.Next.Calls = append(c.Next.Calls, parley.LiveCall{ID: last.ID, Name: name})
	}
	return c.Calls
}

func places(limit int) parley.CallQuery {
	return parley.CallQuery{Services: []parley.CallPlaces{{Service: oneService, Limit: limit, Lease: callLease}}}
}

func (d *desk) claimCalls(q parley.CallQuery) ([]parley.ClaimedCall, time.Duration) {
	d.t.Helper()
	claimed, wait, err := d.ClaimCalls(d.t.Context(), q, time.Hour)
	if err != nil {
		d.t.Fatalf("claim calls: %v", err)
	}
	return claimed, wait
}

// claimsCalls expects just these calls, in any order.
func (d *desk) claimsCalls(q parley.CallQuery, want ...parley.OutgoingCall) []parley.ClaimedCall {
	d.t.Helper()
	claimed, _ := d.claimCalls(q)
	var got []parley.OutgoingCall
	for i := range claimed {
		got = append(got, claimed[i].OutgoingCall)
		if claimed[i].Claim == 0 {
			d.t.Errorf("claim %d has no token", i)
		}
	}
	byID := cmpopts.SortSlices(func(a, b parley.OutgoingCall) bool { return a.ID.String() < b.ID.String() })
	if diff := cmp.Diff(want, got, byID, equal); diff != "" {
		d.t.Fatalf("claimed calls (-want +got):\n%s", diff)
	}
	return claimed
}

func (d *desk) settleCalls(outcomes ...parley.CallOutcome) parley.SettledCalls {
	d.t.Helper()
	settled, err := d.SettleCalls(d.t.Context(), outcomes)
	if err != nil {
		d.t.Fatalf("settle calls: %v", err)
	}
	return settled
}

func answered(c *parley.ClaimedCall) parley.CallOutcome {
	in := c.Answer(200, []byte(`{"ok":true}`), c.Attempts+1)
	return parley.CallOutcome{Of: c, Answer: &in}
}

func callsClaimedAsCommitted(_ *testing.T, d *desk) {
	d.say(conv("a"), "x")
	out := d.calls(conv("a"), oneService, "one", "two")
	d.same("backlog", d.backlog(), parley.Backlog{Calls: 2})
	d.clock.Add(3 * time.Second)
	claimed := d.claimsCalls(places(10), out...)
	for _, c := range claimed {
		want := parley.ClaimedCall{OutgoingCall: c.OutgoingCall, Claim: c.Claim, Age: 3 * time.Second}
		d.same("claim", c, want)
	}
	d.same("backlog", d.backlog(), parley.Backlog{Calls: 2, OldestCall: 3 * time.Second})
}

func callsOfARefusedCommit(t *testing.T, d *desk) {
	kept := d.calls(conv("a"), oneService, "kept")
	loaded := d.load(conv("a"))
	d.say(conv("a"), "x") // which the turn didn't see
	turn := d.turn(loaded)
	turn.Through = d.load(conv("a")).Pending[0].Seq
	d.addCalls(&turn, oneService, "refused")
	turn.CancelCalls = []parley.ID{kept[0].ID}
	turn.Next.Calls = turn.Next.Calls[1:]
	d.conflict(turn)
	other := conv("b")
	taken := d.turn(d.load(other))
	also := d.addCalls(&taken, oneService, "taken")
	if errs := d.tryCommit(turn, taken); errs[0] == nil || errs[1] != nil {
		t.Fatalf("a group of both: %v", errs)
	}
	d.claimsCalls(places(10), kept[0], also[0])
}

func callsClaimedOncePerLease(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one")
	first := d.claimsCalls(places(10), out...)[0]
	d.clock.Add(callLease - time.Millisecond)
	d.claimsCalls(places(10))
	d.clock.Add(time.Millisecond)
	second := d.claimsCalls(places(10), out...)[0]
	d.same("the same claim", first.Claim == second.Claim, false)
	d.same("attempts that were not noted", second.Attempts, 0)
}

func callsEndedClaim(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one")
	old := d.claimsCalls(places(10), out...)[0]
	d.clock.Add(callLease)
	// The lease has ended and nobody has claimed it since: the outcome counts.
	own := old
	d.same("lost", d.settleCalls(parley.CallOutcome{Of: &own, Wait: 0, Uncounted: true}).Lost, 0)
	d.same("the same again", d.settleCalls(answered(&own)).Lost, 1)
	now := d.claimsCalls(places(10), out...)[0]
	d.same("lost", d.settleCalls(answered(&old)), parley.SettledCalls{Lost: 1})
	d.same("postponed by the loser", d.settleCalls(parley.CallOutcome{Of: &old, Wait: time.Hour}), parley.SettledCalls{Lost: 1})
	d.same("pending", len(d.load(conv("a")).Pending), 0)
	d.same("rows", len(d.settleCalls(answered(&now)).Rows), 1)
}

func callsAnsweredOnce(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one")
	c := d.claimsCalls(places(10), out...)[0]
	d.clock.Add(2 * time.Second)
	o := answered(&c)
	settled := d.settleCalls(o, o)
	if len(settled.Rows) != 1 || settled.Lost != 1 {
		d.t.Fatalf("settled %+v", settled)
	}
	row := settled.Rows[0]
	want := parley.Pending{
		Row: row.Row, Conversation: conv("a"), Received: d.clock.Now(), Key: out[0].Key(),
		Input: *o.Answer, Data: row.Data,
	}
	d.same("row", row, want)
	if row.Seq == 0 || row.Token == 0 {
		d.t.Errorf("row %+v", row.Row)
	}
	d.same("pending", d.load(conv("a")).Pending, []parley.Pending{want})
	d.same("settled again", d.settleCalls(o), parley.SettledCalls{Lost: 1})
	d.claimsCalls(places(10))
	d.clock.Add(time.Hour)
	d.claimsCalls(places(10))
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Oldest: time.Hour})
	d.commit(d.turn(d.load(conv("a"))))
	d.same("backlog", d.backlog(), parley.Backlog{})
	d.same("of nothing", d.settleCalls(), parley.SettledCalls{})
}

// callsAnswersInOrder: an answer is one more event of the conversation.
func callsAnswersInOrder(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one", "two")
	before := d.say(conv("a"), "x")
	claimed := d.claimsCalls(places(10), out...)
	rows := d.settleCalls(answered(&claimed[1]), answered(&claimed[0])).Rows
	after := d.say(conv("a"), "y")
	d.same("pending", d.load(conv("a")).Pending, []parley.Pending{before, rows[0], rows[1], after})
	d.same("the first", rows[0].Key, claimed[1].Key())
	overdue := func() []parley.Conversation {
		d.clock.Add(2 * time.Second)
		found, err := d.Overdue(d.t.Context(), all, time.Second, 10)
		if err != nil {
			d.t.Fatal(err)
		}
		return found
	}
	d.same("overdue", overdue(), []parley.Conversation{conv("a")})
}

func callsLater(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one")
	c := d.claimsCalls(places(10), out...)[0]
	d.same("settled", d.settleCalls(parley.CallOutcome{Of: &c, Wait: 5 * time.Second, Status: 503, Cause: "status 503"}), parley.SettledCalls{})
	d.clock.Add(5*time.Second - time.Millisecond)
	d.claimsCalls(places(10))
	d.clock.Add(time.Millisecond)
	c = d.claimsCalls(places(10), out...)[0]
	want := parley.ClaimedCall{OutgoingCall: out[0], Claim: c.Claim, Age: 5 * time.Second, Attempts: 1, Status: 503, Cause: "status 503"}
	d.same("claim", c, want)
	d.settleCalls(parley.CallOutcome{Of: &c, Wait: time.Second, Uncounted: true, Status: 1, Cause: "no"})
	d.clock.Add(time.Second)
	c = d.claimsCalls(places(10), out...)[0]
	want.Claim, want.Age = c.Claim, 6*time.Second
	d.same("claim after one that doesn't count", c, want)
	d.settleCalls(parley.CallOutcome{Of: &c, Cause: "timeout"})
	c = d.claimsCalls(places(10), out...)[0]
	want.Claim, want.Attempts, want.Status, want.Cause = c.Claim, 2, 0, "timeout"
	d.same("claim at once", c, want)
}

// callsOldestFirst: those that have been due for longest.
func callsOldestFirst(_ *testing.T, d *desk) {
	first := d.calls(conv("a"), oneService, "one")[0]
	d.clock.Add(time.Second)
	second := d.calls(conv("b"), oneService, "two")[0]
	c := d.claimsCalls(places(1), first)[0]
	d.settleCalls(parley.CallOutcome{Of: &c, Wait: time.Second})
	d.clock.Add(2 * time.Second)
	third := d.calls(conv("a"), oneService, "three")[0]
	for _, want := range []parley.OutgoingCall{second, first, third} {
		d.claimsCalls(places(1), want)
	}
}

func callsServicesApart(_ *testing.T, d *desk) {
	var many []parley.OutgoingCall
	for i := range 5 {
		many = append(many, d.calls(conv("a"), "slow", fmt.Sprint(i))...)
		d.clock.Add(time.Millisecond)
	}
	one := d.calls(conv("b"), oneService, "one")
	q := parley.CallQuery{Services: []parley.CallPlaces{
		{Service: "slow", Limit: 2, Lease: time.Second}, {Service: oneService, Limit: 2, Lease: callLease}, {Service: "none", Limit: 2, Lease: callLease},
	}}
	d.claimsCalls(q, many[0], many[1], one[0])
	d.clock.Add(time.Second) // for which the one service's lease lasts
	q.Services[0].Limit = 10
	d.claimsCalls(q, many...)
	d.claimsCalls(parley.CallQuery{})
}

func callsOthersLater(_ *testing.T, d *desk) {
	known := d.calls(conv("a"), oneService, "one")
	unknown := d.calls(conv("a"), "gone", "two", "three")
	d.clock.Add(time.Millisecond)
	more := d.calls(conv("b"), "also gone", "four")
	q := places(0)
	q.Others, q.OthersAfter = parley.CallPlaces{Limit: 10, Lease: callLease}, 30*time.Second
	d.clock.Add(30*time.Second - time.Millisecond)
	d.claimsCalls(q, unknown...)
	d.clock.Add(time.Millisecond)
	d.claimsCalls(q, more...)
	d.claimsCalls(q)
	d.claimsCalls(places(10), known...)
	d.clock.Add(callLease + 30*time.Second - time.Millisecond)
	d.claimsCalls(q, unknown...)
}

func callsWait(_ *testing.T, d *desk) {
	waits := func(q parley.CallQuery, want time.Duration) []parley.ClaimedCall {
		d.t.Helper()
		claimed, wait := d.claimCalls(q)
		d.same("wait", wait, want)
		return claimed
	}
	waits(places(10), time.Hour)
	d.calls(conv("a"), oneService, "one", "two", "three")
	d.calls(conv("a"), "another", "four")
	first := waits(places(2), 0)
	waits(places(10), callLease)
	d.settleCalls(parley.CallOutcome{Of: &first[0], Wait: 3 * time.Second}, parley.CallOutcome{Of: &first[1], Wait: 5 * time.Second})
	waits(places(10), 3*time.Second)
	d.clock.Add(time.Second)
	waits(places(10), 2*time.Second)
	waits(parley.CallQuery{Others: parley.CallPlaces{Limit: 10, Lease: callLease}, OthersAfter: time.Hour}, time.Hour)
}

func (d *desk) cancelCalls(c parley.Conversation, calls ...parley.OutgoingCall) {
	d.t.Helper()
	turn := d.turn(d.load(c))
	for _, out := range calls {
		turn.CancelCalls = append(turn.CancelCalls, out.ID)
	}
	turn.Next.Calls = nil
	d.commit(turn)
}

func callsCancelled(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one", "two")
	d.cancelCalls(conv("a"), out[0], parley.OutgoingCall{ID: d.id()})
	d.claimsCalls(places(10), out[1])
	d.same("backlog", d.backlog().Calls, 1)
	d.cancelCalls(conv("a"), out...)
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func callsCancelledWhileClaimed(_ *testing.T, d *desk) {
	out := d.calls(conv("a"), oneService, "one", "two")
	claimed := d.claimsCalls(places(10), out...)
	d.cancelCalls(conv("a"), out...)
	settled := d.settleCalls(answered(&claimed[0]), parley.CallOutcome{Of: &claimed[1], Wait: time.Second})
	d.same("settled", settled, parley.SettledCalls{Lost: 2})
	d.same("pending", len(d.load(conv("a")).Pending), 0)
	d.clock.Add(time.Hour)
	d.claimsCalls(places(10))
}

// callsMerged: what one has called before it was merged is answered to the other.
func callsMerged(_ *testing.T, d *desk) {
	strangers(d)
	for _, c := range []parley.Conversation{older(), younger()} {
		d.commit(d.turn(d.load(c)))
	}
	mine := d.calls(older(), oneService, "mine")
	theirs := d.calls(younger(), oneService, "theirs", "late")
	claimed := d.claimsCalls(places(10), mine[0], theirs[0], theirs[1])
	meet(d, older().Contact, younger().Contact)
	d.commit(d.turn(d.load(older())))
	var rows []parley.Pending
	for i := range claimed {
		rows = append(rows, d.settleCalls(answered(&claimed[i])).Rows...)
	}
	loaded := d.load(older())
	d.same("live", len(loaded.Snapshot.Calls), 3)
	d.same("answers", len(rows), 3)
	for i, p := range loaded.Pending {
		d.same("answer", p.Key, rows[i].Key)
		d.same("answer to", p.Conversation, older())
	}
	d.same("pending", len(loaded.Pending), 3)
	d.commit(d.turn(loaded))
	d.same("backlog", d.backlog(), parley.Backlog{})
}

// callsGivenBack: nobody waits for the claims of the dead, and those of others stay.
func callsGivenBack(t *testing.T, d *desk) {
	yield := func(holder string) {
		t.Helper()
		if err := d.YieldCalls(t.Context(), holder); err != nil {
			t.Fatal(err)
		}
	}
	out := d.calls(conv("a"), oneService, "one", "two", "three")
	of := func(holder string, limit int) parley.CallQuery {
		q := places(limit)
		q.Holder = holder
		return q
	}
	yield("lost")
	lost, _ := d.claimCalls(of("lost", 2))
	other, _ := d.claimCalls(of("other", 2))
	if len(lost) != 2 || len(other) != 1 {
		t.Fatalf("claimed %d and %d", len(lost), len(other))
	}
	d.settleCalls(parley.CallOutcome{Of: &lost[0], Wait: time.Minute})
	d.clock.Add(time.Second)
	yield("lost")
	d.same("outcome of the lost", d.settleCalls(answered(&lost[1])).Lost, 1)
	again := d.claimsCalls(of("other", 10), lost[1].OutgoingCall)
	yield("lost")
	d.same("answers of the other", len(d.settleCalls(answered(&other[0]), answered(&again[0])).Rows), 2)
	d.clock.Add(time.Minute)
	d.claimsCalls(of("lost", 10), lost[0].OutgoingCall)
	d.same("calls", len(out), 3)
}

func callsReopened(_ *testing.T, d *desk) {
	var out []parley.OutgoingCall
	for _, name := range []string{"one", "two", "three", "four"} {
		out = append(out, d.calls(conv(odd), oneService, name)...)
		d.clock.Add(time.Millisecond)
	}
	claimed := d.claimsCalls(places(3), out[0], out[1], out[2])
	one, two := claimOf(claimed, out[0]), claimOf(claimed, out[1])
	d.settleCalls(parley.CallOutcome{Of: one, Wait: time.Minute, Status: 500, Cause: "status 500"}, answered(two))
	before, began := d.load(conv(odd)), d.clock.Now()
	d.reopen()
	d.same("conversation", d.load(conv(odd)), before)
	d.clock.Add(callLease)
	for _, c := range d.claimsCalls(places(10), out[2], out[3]) {
		d.same("attempts", c.Attempts, 0)
	}
	d.clock.Add(began.Add(time.Minute).Sub(d.clock.Now()))
	late := *claimOf(d.claimsCalls(places(10), out[0], out[2], out[3]), out[0])
	age := d.clock.Now().Sub(out[0].At)
	want := parley.ClaimedCall{OutgoingCall: out[0], Claim: late.Claim, Age: age, Attempts: 1, Status: 500, Cause: "status 500"}
	d.same("late", late, want)
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Oldest: time.Minute, Calls: 3, OldestCall: age})
	d.cancelCalls(conv(odd), out...)
	d.reopen()
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func claimOf(claimed []parley.ClaimedCall, of parley.OutgoingCall) *parley.ClaimedCall {
	i := slices.IndexFunc(claimed, func(c parley.ClaimedCall) bool { return c.ID == of.ID })
	return &claimed[i]
}

func callsOfAnySize(_ *testing.T, d *desk) {
	turn := d.turn(d.load(conv("a")))
	d.addCalls(&turn, oneService, "large", "empty")
	turn.Calls[0].Call.Body = json.RawMessage(`"` + string(bytes.Repeat([]byte("x"), parley.MaxCallBytes-2)) + `"`)
	turn.Calls[1].Call = parley.Call{Name: "empty", Service: oneService}
	d.commit(turn)
	claimed := d.claimsCalls(places(10), turn.Calls...)
	large := claimed[0].Answer(200, bytes.Repeat([]byte{0xff, 0}, parley.MaxAnswerBytes/2), 1)
	rows := d.settleCalls(parley.CallOutcome{Of: &claimed[0], Answer: &large}).Rows
	d.same("answer", d.load(conv("a")).Pending, rows)
	d.same("input", rows[0].Input, parley.Input(large))
}

// callsAnsweredOnceByMany: several claim, lose their claims, claim again and answer.
func callsAnsweredOnceByMany(t *testing.T, d *desk) {
	const calls = 96
	names := make([]string, calls/8)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	for i := range 8 {
		d.calls(conv(fmt.Sprint(i)), oneService, names...)
	}
	var mu sync.Mutex
	answers := map[parley.ID]int{}
	d.together(func(ctx context.Context, w int, own *desk) error {
		for round := range 60 {
			settled, err := own.makeCalls(ctx, 5, time.Duration(round%3)*time.Second, func(i int) bool { return (w+i+round)%3 > 0 })
			if errors.Is(err, parley.ErrUnavailable) {
				continue // waited for a lock for too long: these come again when their lease ends
			}
			if err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			mu.Lock()
			for _, p := range settled.Rows {
				answers[p.Input.(parley.Called).ID]++ //nolint:forcetypeassert,errcheck // it may panic
			}
			mu.Unlock()
		}
		return nil
	})
	for id, n := range answers {
		if n != 1 {
			t.Errorf("call %s has %d answers", id, n)
		}
	}
	b := d.backlog()
	d.same("answered or left", len(answers)+b.Calls, calls)
	d.same("rows", b.Pending, len(answers))
	if len(answers) < calls/2 {
		t.Errorf("only %d of %d were answered", len(answers), calls)
	}
}

// makeCalls claims up to limit calls for a lease and settles them: with an answer, or
// to be made again.
func (d *desk) makeCalls(ctx context.Context, limit int, lease time.Duration, answers func(i int) bool) (parley.SettledCalls, error) {
	q := places(limit)
	q.Services[0].Lease = lease
	claimed, _, err := d.ClaimCalls(ctx, q, time.Hour)
	if err != nil {
		return parley.SettledCalls{}, fmt.Errorf("claim: %w", err)
	}
	outcomes := make([]parley.CallOutcome, len(claimed))
	for i := range claimed {
		if outcomes[i] = (parley.CallOutcome{Of: &claimed[i]}); answers(i) {
			outcomes[i] = answered(&claimed[i])
		}
	}
	settled, err := d.SettleCalls(ctx, outcomes)
	if err != nil {
		return settled, fmt.Errorf("settle: %w", err)
	}
	return settled, nil
}

// callsAnsweredOrCancelled: of an answer and a cancellation at the same time one
// comes first, and nobody waits for the other for ever.
func callsAnsweredOrCancelled(_ *testing.T, d *desk) {
	d.together(func(ctx context.Context, w int, own *desk) error {
		for round := range 15 {
			if err := own.callAnew(ctx, conv(fmt.Sprint(w))); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
			if _, err := own.makeCalls(ctx, 20, callLease, func(int) bool { return true }); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
		return nil
	})
	for w := range workers {
		loaded := d.load(conv(fmt.Sprint(w)))
		heard := map[parley.ID]bool{}
		for _, p := range loaded.Pending {
			in, _ := p.Input.(parley.Called)
			if heard[in.ID] {
				d.t.Errorf("call %s was answered twice", in.ID)
			}
			heard[in.ID] = true
		}
		turn := d.turn(loaded)
		for _, live := range turn.Next.Calls {
			turn.CancelCalls = append(turn.CancelCalls, live.ID)
		}
		d.commit(turn)
	}
	d.same("backlog at the end", d.backlog(), parley.Backlog{})
}

// callAnew cancels all calls of a conversation, and begins others, unless an answer
// comes between.
func (d *desk) callAnew(ctx context.Context, c parley.Conversation) error {
	loaded, err := d.Load(ctx, c, 100)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	turn := d.turn(loaded)
	for _, live := range slices.Backward(loaded.Snapshot.Calls) {
		turn.CancelCalls = append(turn.CancelCalls, live.ID)
	}
	turn.Next.Calls = nil
	d.addCalls(&turn, oneService, "1", "2", "3", "4", "5", "6", "7", "8")
	errs, err := d.Commit(ctx, []parley.Commit{turn})
	if err == nil && !errors.Is(errs[0], parley.ErrConflict) {
		err = errs[0]
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
