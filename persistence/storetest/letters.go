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

func runLetters(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"PageByPageInEitherOrder":              lettersPageByPage,
		"OnlyThoseThatAreMeant":                lettersOnlyThoseThatAreMeant,
		"RetriedEventIsANewRowAtTheEnd":        lettersRetriedEvent,
		"RetriedEventTakesEffectOnceMore":      lettersRetriedEventTakesEffect,
		"RetriedTimerFiresUnlessSetAnew":       lettersRetriedTimer,
		"RetriedMessageGoesBehindTheOthers":    lettersRetriedMessage,
		"RetriedMessageBeginsAnew":             lettersRetriedMessageBeginsAnew,
		"RetriedMessagesInTheOrderOfTheRetry":  lettersRetriedMessagesInOrder,
		"TurnFromBeforeARetryConflicts":        lettersTurnFromBeforeConflicts,
		"RetryReachesTheSurvivorOfAMerge":      lettersReachTheSurvivor,
		"RefusedAgainIsALetterAgain":           lettersRefusedAgain,
		"DroppedIsGone":                        lettersDropped,
		"OfNewerFormatStays":                   lettersOfNewerFormat,
		"WaitForOlderMembers":                  lettersWaitForOlderMembers,
		"RetriesAndDropsStayDone":              lettersStayDone,
		"OfRetryAndDropAtOnceOneWins":          lettersConcurrently,
		"RetryAmidTurnsLosesAndDoublesNothing": lettersAmidTurns,
	})
}

// letters reads all that a query means, on one page.
func (d *desk) letters(q parley.DeadQuery) []parley.DeadLetter {
	d.t.Helper()
	q.Limit = parley.MaxDeadPage
	found, err := d.DeadLetters(d.t.Context(), q)
	if err != nil {
		d.t.Fatalf("dead letters: %v", err)
	}
	return found
}

// bury makes a dead letter of a message to c, as if its turn had failed.
func (d *desk) bury(c parley.Conversation, cause string) parley.DeadLetter {
	d.t.Helper()
	turn, dead := d.burial(d.say(c, cause), cause)
	d.commit(turn)
	return dead
}

// burial is the commit that makes a dead letter of a pending row.
func (d *desk) burial(p parley.Pending, cause string) (parley.Commit, parley.DeadLetter) {
	d.t.Helper()
	turn := d.turn(d.load(p.Conversation))
	dead := parley.DeadLetter{ID: d.id(), Conversation: p.Conversation, At: d.clock.Now(), Cause: cause, Seq: p.Seq, Data: p.Data}
	turn.Next.Seen = append(slices.Clone(turn.Next.Seen), parley.SeenKey{Key: p.Key, At: p.Received})
	turn.Dead = []parley.DeadLetter{dead}
	row := effected(&turn, p.Received)
	row.Effected--
	row.Dead++
	return turn, dead
}

// refuse has messages to c refused, one after the other.
func (d *desk) refuse(c parley.Conversation, l parley.Lease, texts ...string) (out []parley.Outgoing, letters []parley.DeadLetter) {
	d.t.Helper()
	out = d.send(c, texts...)
	for i := range out {
		d.claims(l, out[i])
		d.settle(l, parley.Outcome{ID: out[i].ID, Kind: parley.Refused, Cause: "no", Code: 551})
		d.clock.Add(time.Millisecond)
	}
	for _, o := range out {
		letters = append(letters, d.letters(parley.DeadQuery{ID: o.ID})...)
	}
	if len(letters) != len(texts) {
		d.t.Fatalf("%d letters of %d refused messages", len(letters), len(texts))
	}
	return out, letters
}

func (d *desk) retry(id parley.ID) parley.Retried {
	d.t.Helper()
	r, err := d.RetryDeadLetter(d.t.Context(), id, 0)
	if err != nil {
		d.t.Fatalf("retry: %v", err)
	}
	return r
}

// noLetter expects that a letter can be neither retried nor dropped.
func (d *desk) noLetter(id parley.ID) {
	d.t.Helper()
	before := d.backlog()
	if _, err := d.RetryDeadLetter(d.t.Context(), id, 0); !errors.Is(err, parley.ErrNoLetter) {
		d.t.Fatalf("retry: got %v, want ErrNoLetter", err)
	}
	if _, err := d.DropDeadLetter(d.t.Context(), id); !errors.Is(err, parley.ErrNoLetter) {
		d.t.Fatalf("drop: got %v, want ErrNoLetter", err)
	}
	d.same("letters", d.letters(parley.DeadQuery{ID: id}), []parley.DeadLetter{})
	d.same("backlog", d.backlog(), before)
}

func lettersPageByPage(t *testing.T, d *desk) {
	var want []parley.DeadLetter
	for i := range 9 {
		c := conv(fmt.Sprint(i % 2))
		c.Channel.Brand = parley.Brand([]string{"acme", "b", "zebra"}[i%3])
		want = append(want, d.bury(c, fmt.Sprint(i)))
		if i%2 == 1 { // some are of one time
			d.clock.Add(time.Millisecond)
		}
	}
	slices.SortFunc(want, func(a, b parley.DeadLetter) int { return a.Place().Compare(b.Place()) })
	for _, newest := range []bool{false, true} {
		var got []parley.DeadLetter
		q := parley.DeadQuery{Newest: newest, Limit: 2}
		for len(got) <= len(want) {
			page, err := d.DeadLetters(t.Context(), q)
			if err != nil || len(page) > 2 {
				t.Fatalf("page of %d: %v", len(page), err)
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			q.After = page[len(page)-1].Place()
		}
		d.same(fmt.Sprint("letters, the newest first: ", newest), got, want)
		slices.Reverse(want)
	}
	if none, err := d.DeadLetters(t.Context(), parley.DeadQuery{}); err != nil || len(none) > 0 {
		t.Fatalf("a page of none: %v %v", none, err)
	}
}

func lettersOnlyThoseThatAreMeant(t *testing.T, d *desk) {
	other := conv("a")
	other.Channel.Brand = "acme2"
	page2 := conv("a")
	page2.Channel.ID += "2" // as text, page1 begins it
	began := d.clock.Now()
	a := d.bury(conv("a"), "panic: at 100%")
	d.clock.Add(time.Second)
	b := d.bury(conv("ab"), "error: one")
	o := d.bury(other, "error: two")
	p := d.bury(page2, "error: three")
	_, refused := d.refuse(conv("a"), d.lease("s", parley.Lease{}), "x")
	m := refused[0]
	for name, row := range map[string]struct {
		query parley.DeadQuery
		want  []parley.DeadLetter
	}{
		"All":            {parley.DeadQuery{}, []parley.DeadLetter{a, b, o, p, m}},
		"Brand":          {parley.DeadQuery{Brand: "acme2"}, []parley.DeadLetter{o}},
		"BrandOfNone":    {parley.DeadQuery{Brand: "acm"}, nil},
		"Channel":        {parley.DeadQuery{Channel: page()}, []parley.DeadLetter{a, b, m}},
		"Conversation":   {parley.DeadQuery{Conversation: conv("a")}, []parley.DeadLetter{a, m}},
		"Events":         {parley.DeadQuery{Kind: parley.DeadEvent, Brand: "acme"}, []parley.DeadLetter{a, b, p}},
		"Messages":       {parley.DeadQuery{Kind: parley.DeadMessage}, []parley.DeadLetter{m}},
		"Cause":          {parley.DeadQuery{Cause: "error:"}, []parley.DeadLetter{b, o, p}},
		"CauseLiterally": {parley.DeadQuery{Cause: "0%"}, []parley.DeadLetter{a}},
		"CauseOfNone":    {parley.DeadQuery{Cause: "e%r"}, nil},
		"Code":           {parley.DeadQuery{Cause: "(code 551)"}, []parley.DeadLetter{m}},
		"Until":          {parley.DeadQuery{Until: began}, []parley.DeadLetter{a}},
		"UntilBefore":    {parley.DeadQuery{Until: began.Add(-time.Millisecond)}, nil},
		"Until1970":      {parley.DeadQuery{Until: time.UnixMilli(0)}, nil},
		"Several":        {parley.DeadQuery{Channel: page(), Cause: "error", Kind: parley.DeadEvent}, []parley.DeadLetter{b}},
		"ID":             {parley.DeadQuery{ID: o.ID}, []parley.DeadLetter{o}},
		"IDOfAnother":    {parley.DeadQuery{ID: o.ID, Brand: "acme"}, nil},
		"IDOfNone":       {parley.DeadQuery{ID: d.id()}, nil},
		"OtherBrands":    {parley.DeadQuery{Brand: "acme", Channel: other.Channel}, nil},
	} {
		row.query.Limit = 10
		got, err := d.DeadLetters(t.Context(), row.query)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		slices.SortFunc(row.want, func(a, b parley.DeadLetter) int { return a.Place().Compare(b.Place()) })
		d.same(name, got, row.want)
	}
}

// lettersRetriedEvent: the row is behind all others, and no repeat of what Meta may
// deliver again; the conversation is as it was.
func lettersRetriedEvent(t *testing.T, d *desk) {
	dead := d.bury(conv("a"), "panic: boom")
	waits := d.say(conv("a"), "waits")
	before := d.load(conv("a")).Snapshot
	d.clock.Add(time.Minute)
	r := d.retry(dead.ID)
	d.same("letter", r.Letter, dead)
	loaded := d.load(conv("a"))
	d.same("snapshot", loaded.Snapshot, before)
	if len(r.Rows) != 1 || len(loaded.Pending) != 2 {
		t.Fatalf("told of %d rows, pending are %d", len(r.Rows), len(loaded.Pending))
	}
	d.same("row", loaded.Pending, []parley.Pending{waits, r.Rows[0]})
	row := r.Rows[0]
	if row.Seq <= waits.Seq || !row.Late || !row.Received.Equal(d.clock.Now()) {
		t.Errorf("row %+v behind %d", row.Row, waits.Seq)
	}
	d.same("input", row.Data, dead.Data)
	for _, seen := range before.Seen {
		if seen.Key == row.Key {
			t.Error("its key was seen")
		}
	}
	d.noLetter(dead.ID)
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 2, Oldest: time.Minute})
}

// teller is a bot that fails while it is told to, and answers with the kind of what
// came in.
func teller(fails *atomic.Bool) *parley.Bot {
	return &parley.Bot{Name: "teller", Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		if fails.Load() {
			return errors.New("not yet")
		}
		if m, ok := t.Input().(parley.Message); ok && m.Text == "set" {
			t.SetTimer("t", time.Second)
			return nil
		}
		t.Say(t.Input().Kind())
		return nil
	})}
}

// lettersRetriedEventTakesEffect: by Step, which knows the keys that were seen.
func lettersRetriedEventTakesEffect(t *testing.T, d *desk) {
	var fails atomic.Bool
	fails.Store(true)
	bot := teller(&fails)
	e := d.event(conv("a"), "hello")
	d.append(e)
	d.think(bot, conv("a"))
	fails.Store(false)
	letters := d.letters(parley.DeadQuery{})
	if len(letters) != 1 {
		t.Fatalf("%d letters", len(letters))
	}
	d.append(e) // Meta delivers it again: it is a repeat, before the retry and after it
	d.think(bot, conv("a"))
	d.same("backlog", d.backlog(), parley.Backlog{Dead: 1})
	d.retry(letters[0].ID)
	d.think(bot, conv("a"))
	d.append(e)
	d.think(bot, conv("a"))
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1})
}

func lettersRetriedTimer(t *testing.T, d *desk) {
	var fails atomic.Bool
	bot := teller(&fails)
	die := func() parley.ID {
		d.say(conv("a"), "set")
		d.think(bot, conv("a"))
		d.clock.Add(time.Second)
		fireOnce(d)
		fails.Store(true)
		d.think(bot, conv("a"))
		fails.Store(false)
		letters := d.letters(parley.DeadQuery{})
		if len(letters) != 1 || letters[0].What() != "timer_fired" {
			t.Fatalf("letters %+v", letters)
		}
		return letters[0].ID
	}
	d.retry(die())
	d.think(bot, conv("a"))
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1})
	id := die()
	d.say(conv("a"), "set")
	d.think(bot, conv("a"))
	d.retry(id)
	d.think(bot, conv("a"))
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1, Timers: 1})
}

// lettersRetriedMessage: what was decided after it goes first, whether it is with the
// provider or waits, so that nothing is overtaken.
func lettersRetriedMessage(t *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	refused, letters := d.refuse(conv("a"), l, "refused")
	later := d.send(conv("a"), "with the provider", "waits")
	d.claims(l, later[0])
	before := d.load(conv("a")).Snapshot
	d.clock.Add(time.Second)
	r := d.retry(letters[0].ID)
	d.same("letter", r.Letter, letters[0])
	if len(r.Rows) > 0 {
		t.Errorf("told of rows: %v", r.Rows)
	}
	d.noLetter(letters[0].ID)
	again := parley.Outgoing{ID: refused[0].ID, Conversation: conv("a"), Ordinal: before.Ordinal + 1, At: d.clock.Now(), Send: refused[0].Send}
	d.claims(l) // one is with the provider
	d.settle(l, sent(later[0]))
	d.claims(l, later[1])
	d.settle(l, sent(later[1]))
	claimed := d.claims(l, again)
	if claimed[0].Attempts != 0 || claimed[0].Doubtful {
		t.Errorf("claimed %+v", claimed[0])
	}
	d.settle(l, sent(again))
	after := d.load(conv("a")).Snapshot
	if after.Version.Number != before.Version.Number+1 || after.Ordinal != again.Ordinal {
		t.Errorf("version %d and ordinal %d after %d and %d", after.Version.Number, after.Ordinal, before.Version.Number, before.Ordinal)
	}
	next := d.send(conv("a"), "next")
	if next[0].Ordinal != again.Ordinal+1 {
		t.Errorf("ordinal %d after %d", next[0].Ordinal, again.Ordinal)
	}
	d.claims(l, next[0])
}

// lettersRetriedMessageBeginsAnew: what it had behind it doesn't count.
func lettersRetriedMessageBeginsAnew(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x")
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry})
	d.claim(l, 1)
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Doubt})
	d.claim(l, 1)
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Refused, Cause: "no"})
	d.clock.Add(48 * time.Hour)
	d.retry(out[0].ID)
	claimed, _ := d.claim(d.lease("s", l), 1)
	if len(claimed) != 1 || claimed[0].Attempts != 0 || claimed[0].Doubtful || !claimed[0].At.Equal(d.clock.Now()) {
		t.Fatalf("claimed %+v", claimed)
	}
	records, err := d.History(t.Context(), out[0].Conversation, 0, 10)
	if err != nil || len(records) != 2 {
		t.Fatalf("history %q: %v", records, err)
	}
}

func lettersRetriedMessagesInOrder(_ *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	_, letters := d.refuse(conv("a"), l, "1", "2", "3")
	for _, k := range []int{2, 0, 1} {
		d.retry(letters[k].ID)
	}
	for _, k := range []int{2, 0, 1} {
		claimed, _ := d.claim(l, 10)
		if len(claimed) != 1 || claimed[0].ID != letters[k].ID {
			d.t.Fatalf("claimed %+v, want %s", claimed, letters[k].ID)
		}
		d.settle(l, sent(claimed[0].Outgoing))
	}
}

// lettersTurnFromBeforeConflicts: a turn that didn't see the retry would give its
// messages the same ordinals.
func lettersTurnFromBeforeConflicts(_ *testing.T, d *desk) {
	_, letters := d.refuse(conv("a"), d.lease("s", parley.Lease{}), "x")
	d.say(conv("a"), "hello")
	turn := d.turn(d.load(conv("a")))
	d.replies(&turn, "y")
	d.retry(letters[0].ID)
	d.conflict(turn)
}

func lettersReachTheSurvivor(t *testing.T, d *desk) {
	strangers(d)
	d.commit(d.turn(d.load(younger())), d.turn(d.load(older())))
	l := d.leaseOf(number(), "s", parley.Lease{})
	refused, letters := d.refuse(younger(), l, "refused")
	event := d.bury(younger(), "panic: boom")
	meet(d, "bsuid:x", "phone:1")
	d.commit(d.turn(d.load(older())))
	d.retry(letters[0].ID)
	claimed, _ := d.claim(l, 10)
	if len(claimed) != 1 || claimed[0].ID != refused[0].ID || claimed[0].Conversation != older() {
		t.Fatalf("claimed %+v", claimed)
	}
	r := d.retry(event.ID)
	d.same("pending", d.load(older()).Pending, r.Rows)
	d.commit(d.turn(d.load(older())))
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1})
}

func lettersRefusedAgain(_ *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	_, letters := d.refuse(conv("a"), l, "x")
	for range 3 {
		d.retry(letters[0].ID)
		claimed, _ := d.claim(l, 10)
		if len(claimed) != 1 {
			d.t.Fatalf("claimed %v", claimed)
		}
		d.settle(l, parley.Outcome{ID: claimed[0].ID, Kind: parley.Refused, Cause: "again"})
		d.same("backlog", d.backlog(), parley.Backlog{Dead: 1})
		d.same("cause", d.letters(parley.DeadQuery{})[0].Cause, "again")
	}
}

func lettersDropped(t *testing.T, d *desk) {
	a, b := d.bury(conv("a"), "one"), d.bury(conv("a"), "two")
	gone, err := d.DropDeadLetter(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	d.same("letter", gone, a)
	d.noLetter(a.ID)
	d.same("letters", d.letters(parley.DeadQuery{}), []parley.DeadLetter{b})
	d.same("backlog", d.backlog(), parley.Backlog{Dead: 1})
}

// lettersOfNewerFormat: what this program can't read it doesn't take from where it is.
func lettersOfNewerFormat(t *testing.T, d *desk) {
	turn := d.turn(d.load(conv("a")))
	turn.Dead = []parley.DeadLetter{
		{ID: d.id(), Conversation: conv("a"), At: d.clock.Now(), Cause: "c", Seq: 7, Data: []byte(`{"kind":"thought","input":{}}`)},
		{ID: d.id(), Conversation: conv("a"), At: d.clock.Now(), Cause: "c", Data: []byte(`{"effect":"sing","value":{}}`)},
		{ID: d.id(), Conversation: conv("a"), At: d.clock.Now(), Cause: "c", Data: []byte(`{"effect":"send","value":{"format":1000,"text":"look"}}`)},
		{ID: d.id(), Conversation: conv("a"), At: d.clock.Now(), Cause: "c", Data: []byte(`{`)},
	}
	d.commit(turn)
	for _, dead := range turn.Dead {
		if _, err := d.RetryDeadLetter(t.Context(), dead.ID, 0); !errors.Is(err, parley.ErrFormat) {
			t.Fatalf("retry: got %v, want ErrFormat", err)
		}
		d.same("letter", d.letters(parley.DeadQuery{ID: dead.ID}), []parley.DeadLetter{dead})
	}
	d.same("backlog", d.backlog(), parley.Backlog{Dead: len(turn.Dead)})
	d.same("snapshot", d.load(conv("a")).Snapshot, turn.Next)
}

// lettersWaitForOlderMembers: what a member doesn't read is not stored, and its letter
// stays.
func lettersWaitForOlderMembers(t *testing.T, d *desk) {
	dead := func(seq parley.Seq, data string) parley.DeadLetter {
		return parley.DeadLetter{ID: d.id(), Conversation: conv("a"), At: d.clock.Now(), Cause: "c", Seq: seq, Data: []byte(data)}
	}
	turn := d.turn(d.load(conv("a")))
	turn.Dead = []parley.DeadLetter{
		dead(7, `{"kind":"called","input":{"name":"n"}}`), dead(0, `{"effect":"send","value":{"format":2,"text":"look","footer":"below"}}`),
	}
	d.commit(turn)
	for _, dead := range turn.Dead {
		if _, err := d.RetryDeadLetter(t.Context(), dead.ID, 1); !errors.Is(err, parley.ErrAhead) || errors.Is(err, parley.ErrFormat) {
			t.Fatalf("retry: got %v, want ErrAhead", err)
		}
		d.same("letter", d.letters(parley.DeadQuery{ID: dead.ID}), []parley.DeadLetter{dead})
	}
	d.same("backlog", d.backlog(), parley.Backlog{Dead: len(turn.Dead)})
	d.same("snapshot", d.load(conv("a")).Snapshot, turn.Next)
	for _, dead := range turn.Dead { // all have been upgraded
		if _, err := d.RetryDeadLetter(t.Context(), dead.ID, parley.Format); err != nil {
			t.Fatal(err)
		}
	}
	d.same("dead letters", d.backlog().Dead, 0)
}

func lettersStayDone(t *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	refused, messages := d.refuse(conv("a"), l, "x", "y")
	event, dropped := d.bury(conv("b"), "one"), d.bury(conv("b"), "two")
	d.retry(messages[1].ID)
	rows := d.retry(event.ID).Rows
	if _, err := d.DropDeadLetter(t.Context(), dropped.ID); err != nil {
		t.Fatal(err)
	}
	before := d.backlog()
	d.same("backlog", before, parley.Backlog{Pending: 1, Unsent: 1, Dead: 1})
	d.reopen()
	d.same("backlog", d.backlog(), before)
	d.same("letters", d.letters(parley.DeadQuery{}), messages[:1])
	d.same("pending", d.load(conv("b")).Pending, rows)
	claimed, _ := d.claim(d.lease("s", parley.Lease{}), 10)
	if len(claimed) != 1 || claimed[0].ID != refused[1].ID {
		t.Fatalf("claimed %+v", claimed)
	}
	for _, gone := range []parley.ID{messages[1].ID, event.ID, dropped.ID} {
		d.noLetter(gone)
	}
}

// decide retries or drops a letter, and says which of two counts that is one of.
func (d *desk) decide(ctx context.Context, id parley.ID, retry bool, retried, dropped *atomic.Int32) (*atomic.Int32, error) {
	if retry {
		_, err := d.RetryDeadLetter(ctx, id, 0)
		return retried, err
	}
	_, err := d.DropDeadLetter(ctx, id)
	return dropped, err
}

// lettersConcurrently: of all who want a letter one gets it.
func lettersConcurrently(t *testing.T, d *desk) {
	const letters = 12
	var ids []parley.ID
	for i := range letters / 2 {
		ids = append(ids, d.bury(conv(fmt.Sprint(i%3)), "x").ID)
	}
	_, refused := d.refuse(conv("a"), d.lease("s", parley.Lease{}), slices.Repeat([]string{"x"}, letters/2)...)
	for _, dead := range refused {
		ids = append(ids, dead.ID)
	}
	var retried, dropped [letters]atomic.Int32
	d.together(func(ctx context.Context, w int, own *desk) error {
		for i, id := range ids {
			did, err := own.decide(ctx, id, (i+w)%2 == 0, &retried[i], &dropped[i])
			if err == nil {
				did.Add(1)
			} else if !errors.Is(err, parley.ErrNoLetter) {
				return err
			}
		}
		return nil
	})
	var want parley.Backlog
	for i := range ids {
		if n := retried[i].Load() + dropped[i].Load(); n != 1 {
			t.Errorf("letter %d was taken %d times", i, n)
		}
		if i < letters/2 {
			want.Pending += int(retried[i].Load())
		} else {
			want.Unsent += int(retried[i].Load())
		}
	}
	d.same("backlog", d.backlog(), want)
}

// talk tries a turn that says something, and counts it if it was taken.
func (d *desk) talk(ctx context.Context, turns *atomic.Int32) error {
	loaded, err := d.Load(ctx, conv("a"), 10)
	if err != nil {
		return err
	}
	turn := d.turn(loaded)
	d.replies(&turn, "y")
	errs, err := d.Commit(ctx, []parley.Commit{turn})
	switch {
	case err != nil:
		return err
	case errs[0] == nil:
		turns.Add(1)
	case !errors.Is(errs[0], parley.ErrConflict):
		return errs[0]
	}
	return nil
}

// lettersAmidTurns: retries of messages of a conversation that goes on talking.
func lettersAmidTurns(t *testing.T, d *desk) {
	const letters = 10
	l := d.lease("s", parley.Lease{})
	_, refused := d.refuse(conv("a"), l, slices.Repeat([]string{"x"}, letters)...)
	var turns atomic.Int32
	d.together(func(ctx context.Context, w int, own *desk) (err error) {
		for i := 0; i < letters && err == nil; i++ {
			if w == 0 {
				_, err = own.RetryDeadLetter(ctx, refused[i].ID, 0)
			} else {
				err = own.talk(ctx, &turns)
			}
		}
		return err
	})
	seen, last := map[parley.ID]bool{}, uint64(0)
	for range letters + int(turns.Load()) {
		claimed, _ := d.claim(l, 10)
		if len(claimed) != 1 || seen[claimed[0].ID] || claimed[0].Ordinal <= last {
			t.Fatalf("claimed %+v after ordinal %d", claimed, last)
		}
		seen[claimed[0].ID], last = true, claimed[0].Ordinal
		d.settle(l, sent(claimed[0].Outgoing))
	}
	for _, dead := range refused {
		if !seen[dead.ID] {
			t.Errorf("%s was not sent", dead.ID)
		}
	}
	d.same("backlog", d.backlog(), parley.Backlog{})
}
