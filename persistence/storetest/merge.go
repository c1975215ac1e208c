package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runMerge(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"OldestSurvives":                    mergeOldestSurvives,
		"AllKeysMeanTheSurvivor":            mergeAllKeysMeanTheSurvivor,
		"WithinOneGroup":                    mergeWithinOneGroup,
		"ReleaseMergesToo":                  mergeReleaseMergesToo,
		"RowsOfBothInOrderOfTheirNumbers":   mergeRowsOfBothInOrder,
		"TheYoungerSaysWhereItWent":         mergeTheYoungerSaysWhereItWent,
		"CommitCoversAllKeys":               mergeCommitCoversAllKeys,
		"CommitSeesRowsOfAllKeys":           mergeCommitSeesRowsOfAllKeys,
		"CommitFromBeforeConflicts":         mergeCommitFromBeforeConflicts,
		"OverdueUntilTheSurvivorTakesThem":  mergeOverdue,
		"StateBelongsToTheSurvivor":         mergeStateBelongsToTheSurvivor,
		"StateOfTheYoungerIfThereIsNoOther": mergeStateOfTheYounger,
		"TimersOfBothFireOnce":              mergeTimersOfBothFireOnce,
		"RepeatsOfEitherAreKnown":           mergeRepeatsOfEitherAreKnown,
		"OlderOfAllThatWasAbsorbed":         mergeOlderOfAllThatWasAbsorbed,
		"UnsentOfTheYoungerGoFirst":         mergeUnsentOfTheYoungerGoFirst,
		"UnsentOfAChainInItsOrder":          mergeUnsentOfAChain,
		"RefusedOfTheYoungerMakesWay":       mergeRefusedOfTheYoungerMakesWay,
		"ClaimedMayBeSettledAfterIt":        mergeClaimedMayBeSettled,
		"DoubtfulOfTheYoungerGoFirst":       mergeDoubtfulOfTheYoungerGoFirst,
		"FailuresReachTheSurvivor":          mergeFailuresReachTheSurvivor,
		"WatermarksOfAllKeys":               mergeWatermarksOfAllKeys,
		"TwiceIsOnce":                       mergeTwiceIsOnce,
		"ChainOfMerges":                     mergeChain,
		"SeveralAtOnce":                     mergeSeveralAtOnce,
		"OfManyInOneGroup":                  mergeOfManyInOneGroup,
		"BeyondTheLimitTheyStayApart":       mergeBeyondTheLimit,
		"BrandsAndChannelsApart":            mergeBrandsAndChannelsApart,
		"SurvivesReopen":                    mergeSurvivesReopen,
		"ConcurrentAppendsMergeOnce":        mergeConcurrently,
	})
}

// person is a conversation of the WhatsApp number.
func person(key parley.Contact) parley.Conversation {
	return parley.Conversation{Channel: number(), Contact: key}
}

// The two sides of most merges: older's key is the weaker one.
func older() parley.Conversation   { return person("phone:1") }
func younger() parley.Conversation { return person("bsuid:x") }

// strangers lets the two become known, one after the other.
func strangers(d *desk) {
	d.t.Helper()
	d.say(older(), "I am 1")
	d.say(younger(), "I am x")
	d.commit(d.turn(d.load(older())))
	d.commit(d.turn(d.load(younger())))
}

// meet is an event that tells that keys are of one person.
func meet(d *desk, keys ...parley.Contact) parley.Pending {
	d.t.Helper()
	return d.append(contactEvent(d, keys...))[0]
}

func mergeOldestSurvives(_ *testing.T, d *desk) {
	expectContact(d, "phone:1", "phone:1")
	expectContact(d, "bsuid:x", "bsuid:x")
	expectContact(d, "phone:1", "bsuid:x", "phone:1")
	expectContact(d, "bsuid:y", "bsuid:y")
	expectContact(d, "phone:2", "phone:2")
	expectContact(d, "bsuid:y", "bsuid:y", "phone:2")
	// What counts is when a conversation's first key became known.
	expectContact(d, "bsuid:z", "bsuid:z", "phone:3")
	expectContact(d, "bsuid:new", "bsuid:new")
	expectContact(d, "bsuid:z", "phone:4", "bsuid:z")
	expectContact(d, "bsuid:z", "bsuid:new", "phone:4")
}

func mergeAllKeysMeanTheSurvivor(_ *testing.T, d *desk) {
	expectContact(d, "phone:1", "phone:1")
	expectContact(d, "bsuid:x", "bsuid:x", "phone:2")
	expectContact(d, "phone:1", "bsuid:x", "phone:1")
	for _, key := range []parley.Contact{"phone:1", "phone:2", "bsuid:x"} {
		expectContact(d, "phone:1", key)
	}
	expectContact(d, "phone:1", "bsuid:later", "phone:2")
	expectContact(d, "phone:1", "bsuid:later")
	d.same("rows", len(d.load(older()).Pending), 8)
}

// mergeWithinOneGroup: what comes together may be new altogether.
func mergeWithinOneGroup(_ *testing.T, d *desk) {
	rows := d.append(contactEvent(d, "bsuid:x"), contactEvent(d, "phone:1"), contactEvent(d, "bsuid:x", "phone:1"))
	var want, got []parley.Row
	for _, p := range rows {
		want = append(want, p.Row)
	}
	for _, p := range d.load(rows[2].Conversation).Pending {
		got = append(got, p.Row)
	}
	d.same("rows", got, want)
	expectContact(d, rows[2].Conversation.Contact, "bsuid:x")
	expectContact(d, rows[2].Conversation.Contact, "phone:1")
}

func mergeReleaseMergesToo(t *testing.T, d *desk) {
	strangers(d)
	quarKeep(d, quarEntry("body"))
	id := quarRead(d, parley.ID{}, 1)[0].ID
	rows, err := d.Release(t.Context(), []parley.ID{id}, parley.Arrivals{Events: []parley.Event{contactEvent(d, "bsuid:x", "phone:1")}})
	if err != nil || len(rows) != 1 {
		t.Fatalf("release: %v %v", rows, err)
	}
	d.same("conversation", rows[0].Conversation, older())
	d.same("absorbed", d.load(older()).Snapshot.Absorbed, []parley.Contact{"bsuid:x"})
	d.same("quarantined", d.backlog().Quarantined, 0)
}

func mergeRowsOfBothInOrder(t *testing.T, d *desk) {
	var want []parley.Pending
	for i := range 6 {
		c := older()
		if i%2 == 0 {
			c = younger()
		}
		row := d.say(c, fmt.Sprint(i))
		row.Conversation = younger() // it was first
		want = append(want, row)
	}
	want = append(want, meet(d, "phone:1", "bsuid:x"), d.say(older(), "later"))
	for i := range want {
		want[i].Conversation = younger()
	}
	d.same("pending", d.load(younger()).Pending, want)
	l, err := d.Load(t.Context(), younger(), 3)
	if err != nil || !l.More {
		t.Fatalf("More is %v: %v", l.More, err)
	}
	d.same("first rows", l.Pending, want[:3])
	if l, err = d.Load(t.Context(), younger(), len(want)); err != nil || l.More {
		t.Errorf("More is %v with all rows read: %v", l.More, err)
	}
	d.same("backlog", d.backlog().Pending, len(want))
}

func mergeTheYoungerSaysWhereItWent(_ *testing.T, d *desk) {
	strangers(d)
	before := d.load(younger()).Snapshot.Version
	d.say(younger(), "waits")
	meet(d, "bsuid:x", "phone:1")
	l := d.load(younger())
	if after := l.Snapshot.Version; after.Number != before.Number+1 || after.Token == before.Token {
		d.t.Errorf("version %+v after %+v", after, before)
	}
	l.Snapshot.Version = parley.Version{}
	d.same("the younger", l, parley.Loaded{Snapshot: parley.Snapshot{Conversation: younger(), MergedInto: "phone:1"}})
	d.same("the survivor's absorbed", d.load(older()).Snapshot.Absorbed, []parley.Contact{"bsuid:x"})
}

func mergeCommitCoversAllKeys(t *testing.T, d *desk) {
	strangers(d)
	d.say(younger(), "1")
	d.say(older(), "2")
	third := d.say(younger(), "3")
	row := meet(d, "bsuid:x", "phone:1")
	third.Conversation = older()
	l, err := d.Load(t.Context(), older(), 2)
	if err != nil {
		t.Fatal(err)
	}
	d.commit(d.turn(l))
	d.same("rows behind", d.load(older()).Pending, []parley.Pending{third, row})
	d.same("backlog", d.backlog().Pending, 2)
	d.commit(d.turn(d.load(older())))
	d.same("backlog", d.backlog(), parley.Backlog{})
	d.same("rows", d.load(older()).Pending, []parley.Pending(nil))
}

// mergeCommitSeesRowsOfAllKeys: a turn that didn't see a row of another key up to
// where it read is refused.
func mergeCommitSeesRowsOfAllKeys(_ *testing.T, d *desk) {
	strangers(d)
	d.say(younger(), "1")
	d.say(older(), "2")
	meet(d, "bsuid:x", "phone:1")
	turn := d.turn(d.load(older()))
	for i := range turn.Saw {
		blind := turn
		blind.Saw = slices.Delete(slices.Clone(turn.Saw), i, i+1)
		d.conflict(blind)
		odd := turn
		odd.Saw = slices.Clone(turn.Saw)
		odd.Saw[i].Token++
		d.conflict(odd)
	}
	d.commit(turn)
}

func mergeCommitFromBeforeConflicts(_ *testing.T, d *desk) {
	strangers(d)
	d.say(older(), "1")
	d.say(younger(), "2")
	ofOlder, ofYounger := d.turn(d.load(older())), d.turn(d.load(younger()))
	d.replies(&ofOlder, "of the older")
	d.replies(&ofYounger, "of the younger")
	meet(d, "bsuid:x", "phone:1")
	d.conflict(ofOlder)
	d.conflict(ofYounger)
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 3})
}

func mergeOverdue(_ *testing.T, d *desk) {
	strangers(d)
	d.say(younger(), "waits")
	d.clock.Add(2 * time.Second)
	row := meet(d, "bsuid:x", "phone:1")
	found := overdueOf(d, all, 10)
	if len(found) != 1 || found[0] != older() && found[0] != younger() {
		d.t.Fatalf("overdue %v", found)
	}
	shard := found[0].Shard()
	d.same("overdue in its shard", overdueOf(d, func(s uint16) bool { return s == shard }, 10), found)
	d.same("overdue elsewhere", overdueOf(d, func(s uint16) bool { return s != shard }, 10), []parley.Conversation(nil))
	d.commit(d.turn(d.load(older())))
	d.clock.Add(2 * time.Second)
	d.same("overdue after it was taken", overdueOf(d, all, 10), []parley.Conversation(nil))
	d.same("the row", row.Conversation, older())
}

// notebook is a bot that notes all it hears and answers each message.
func notebook() *parley.Bot {
	return &parley.Bot{Name: "notebook", Version: 1, Behavior: parley.Stateful(func(t *parley.Turn, lines *[]string) error {
		switch in := t.Input().(type) {
		case parley.Message:
			*lines = append(*lines, in.Text)
			t.Say("re " + in.Text)
		case parley.TimerFired:
			*lines = append(*lines, "ring "+in.Name)
		default:
			*lines = append(*lines, in.Kind())
		}
		return nil
	})}
}

func setting(bot *parley.Bot, name string, in time.Duration) *parley.Bot {
	also := *bot
	also.Behavior = parley.BehaviorFunc(func(t *parley.Turn) error {
		t.SetTimer(name, in)
		return bot.Behavior.Receive(t)
	})
	return &also
}

// think takes turns of c, as its owner does, until nothing is pending.
func (d *desk) think(bot *parley.Bot, c parley.Conversation) parley.Snapshot {
	d.t.Helper()
	for {
		l, err := d.Load(d.t.Context(), c, parley.MaxPendingPerTurn)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(l.Pending) == 0 {
			return l.Snapshot
		}
		var keys []parley.EventKey
		for _, p := range l.Pending {
			if l.Snapshot.NeedsOlder(p) {
				keys = append(keys, p.Key)
			}
		}
		d.commit(parley.Step(bot, l.Snapshot, l.Pending, parley.Circumstance{Nonce: d.nonce(), Older: olderOf(d, c, keys...)}))
	}
}

// noted is what the notebook of a conversation says.
func (d *desk) noted(c parley.Conversation) (lines []string) {
	d.t.Helper()
	if state := d.load(c).Snapshot.State; len(state) > 0 {
		if err := json.Unmarshal(state, &lines); err != nil {
			d.t.Fatal(err)
		}
	}
	return lines
}

func mergeStateBelongsToTheSurvivor(t *testing.T, d *desk) {
	d.say(older(), "o1")
	before := d.think(notebook(), older())
	d.say(younger(), "y1")
	d.think(notebook(), younger())
	d.say(younger(), "y2")
	meet(d, "bsuid:x", "phone:1")
	after := d.load(older()).Snapshot
	if after.Version.Number != before.Version.Number+1 || after.Version.Token == before.Version.Token {
		t.Errorf("version %+v after %+v", after.Version, before.Version)
	}
	d.same("ordinal", after.Ordinal, before.Ordinal)
	d.same("keys seen", len(after.Seen), 2)
	d.think(notebook(), older())
	d.same("noted", d.noted(older()), []string{"o1", "y2", "hello"})
	for c, word := range map[parley.Conversation]string{older(): "merged", younger(): "merged_into"} {
		records, err := d.History(t.Context(), c, 1, 1)
		var record map[string]any
		if err != nil || len(records) != 1 || json.Unmarshal(records[0], &record) != nil || record[word] == nil {
			t.Errorf("history of %s: %q %v", c.Contact, records, err)
		}
	}
}

func mergeStateOfTheYounger(_ *testing.T, d *desk) {
	d.say(older(), "o1") // never handled by then
	d.say(younger(), "y1")
	d.think(notebook(), younger())
	meet(d, "bsuid:x", "phone:1")
	d.think(notebook(), older())
	d.same("noted", d.noted(older()), []string{"y1", "o1", "hello"})
}

func mergeTimersOfBothFireOnce(t *testing.T, d *desk) {
	bot := notebook()
	both := func(name string, in time.Duration) {
		d.t.Helper()
		for side, c := range map[string]parley.Conversation{"o ": older(), "y ": younger()} {
			d.say(c, "set")
			d.think(setting(bot, side+name, in), c)
			d.say(c, "set")
			d.think(setting(bot, name, in), c) // of the same name on both sides
		}
	}
	d.say(older(), "first")
	d.think(bot, older())
	both("soon", time.Second)
	both("later", time.Minute)
	d.clock.Add(2 * time.Second)
	fireTimers(d, 10) // in the inboxes of both when they are merged
	meet(d, "bsuid:x", "phone:1")
	for range 3 {
		d.think(bot, older())
		d.clock.Add(time.Minute)
		rows, _ := fireTimers(d, 100)
		for _, p := range rows {
			d.same("conversation", p.Conversation, older())
		}
	}
	rung := slices.DeleteFunc(d.noted(older()), func(line string) bool { return !strings.HasPrefix(line, "ring") })
	slices.Sort(rung)
	d.same("rung", rung, []string{"ring later", "ring o later", "ring o soon", "ring soon", "ring y later", "ring y soon"})
	backlog := d.backlog()
	if backlog.Timers != 0 || backlog.Pending != 0 {
		t.Errorf("backlog %+v", backlog)
	}
}

// mergeRepeatsOfEitherAreKnown: more events on both sides than a snapshot
// remembers, and then all of them again.
func mergeRepeatsOfEitherAreKnown(_ *testing.T, d *desk) {
	var events []parley.Event
	for i := range 2 * (parley.InlineSeen + 10) {
		e := d.event([]parley.Conversation{older(), younger()}[i%2], "x")
		if i%3 == 0 {
			e.Time = time.Time{}
		}
		events = append(events, e)
		d.append(e)
		d.clock.Add(time.Second)
	}
	d.think(notebook(), older())
	d.think(notebook(), younger())
	meet(d, "bsuid:x", "phone:1")
	d.think(notebook(), older())
	before := d.noted(older())
	for _, e := range events {
		d.append(e)
	}
	d.think(notebook(), older())
	d.same("noted after repeats", d.noted(older()), before)
	d.same("pending", d.backlog().Pending, 0)
}

func mergeOlderOfAllThatWasAbsorbed(_ *testing.T, d *desk) {
	convs := []parley.Conversation{person("phone:1"), person("phone:2"), person("phone:3")}
	var keys []parley.EventKey
	want := map[parley.EventKey]bool{}
	for i, c := range convs {
		d.say(c, "x")
		turn := d.turn(d.load(c))
		turn.Evicted = []parley.SeenKey{{Key: olderKey(i), At: d.clock.Now()}}
		d.commit(turn)
		keys = append(keys, olderKey(i))
		want[olderKey(i)] = true
		d.clock.Add(25 * time.Hour)
	}
	meet(d, "phone:2", "phone:3")
	meet(d, "phone:1", "phone:2")
	d.same("found", olderOf(d, convs[0], append(keys, olderKey(9))...), want)
	d.same("found of another", olderOf(d, person("phone:4"), keys...), map[parley.EventKey]bool{})
}

func mergeTwiceIsOnce(t *testing.T, d *desk) {
	strangers(d)
	meet(d, "bsuid:x", "phone:1")
	once := d.load(older()).Snapshot
	meet(d, "bsuid:x", "phone:1")
	meet(d, "phone:1", "bsuid:x")
	d.same("after the second time", d.load(older()).Snapshot, once)
	records, err := d.History(t.Context(), older(), 0, 10)
	if err != nil || len(records) != 2 {
		t.Errorf("history %q: %v", records, err)
	}
	d.same("rows", len(d.load(older()).Pending), 3)
}

func mergeChain(_ *testing.T, d *desk) {
	a, b, c := person("phone:a"), person("bsuid:b"), person("bsuid:c")
	var want []parley.Row
	for _, conv := range []parley.Conversation{a, b, c, b, a} {
		want = append(want, d.say(conv, "x").Row)
	}
	first, second := meet(d, "bsuid:c", "bsuid:b"), meet(d, "bsuid:b", "phone:a")
	d.same("who absorbs", []parley.Conversation{first.Conversation, second.Conversation}, []parley.Conversation{b, a})
	want = append(want, first.Row, second.Row, d.say(c, "later").Row, d.say(b, "later").Row)
	var got []parley.Row
	for _, p := range d.load(a).Pending {
		d.same("conversation", p.Conversation, a)
		got = append(got, p.Row)
	}
	d.same("rows", got, want)
	d.same("absorbed", d.load(a).Snapshot.Absorbed, []parley.Contact{"bsuid:b", "bsuid:c"})
	for gone, into := range map[parley.Conversation]parley.Contact{b: "phone:a", c: "bsuid:b"} {
		l := d.load(gone)
		d.same("rows of what is gone", len(l.Pending), 0)
		if l.Snapshot.MergedInto != into && l.Snapshot.MergedInto != "phone:a" { // a store may shorten the way
			d.t.Errorf("%s was merged into %q", gone.Contact, l.Snapshot.MergedInto)
		}
	}
	d.commit(d.turn(d.load(a)))
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func mergeSeveralAtOnce(_ *testing.T, d *desk) {
	keys := []parley.Contact{"phone:3", "bsuid:2", "phone:1", "bsuid:0"}
	for _, key := range slices.Backward(keys) {
		meet(d, key)
	}
	expectContact(d, "bsuid:0", keys...)
	for _, key := range keys {
		expectContact(d, "bsuid:0", key)
	}
	absorbed := d.load(person("bsuid:0")).Snapshot.Absorbed
	slices.Sort(absorbed)
	d.same("absorbed", absorbed, []parley.Contact{"bsuid:2", "phone:1", "phone:3"})
	d.same("rows", len(d.load(person("bsuid:0")).Pending), 9)
}

// mergeOfManyInOneGroup: as may happen when a spool is drained.
func mergeOfManyInOneGroup(_ *testing.T, d *desk) {
	const people = 20
	var apart, joined []parley.Event
	for i := range people {
		b, p := parley.Contact(fmt.Sprint("bsuid:", i)), parley.Contact(fmt.Sprint("phone:", i))
		apart = append(apart, d.event(person(b), "x"), d.event(person(p), "x"))
		joined = append(joined, d.event(person(b), "x"))
		joined[i].Contacts = []parley.Contact{b, p}
	}
	d.append(apart...)
	d.append(joined...)
	for i := range people {
		d.same("rows", len(d.load(person(parley.Contact(fmt.Sprint("bsuid:", i)))).Pending), 3)
	}
}

func mergeBeyondTheLimit(_ *testing.T, d *desk) {
	expectContact(d, "phone:old", "phone:old")
	for i := range parley.MaxAbsorbed + 1 {
		key := parley.Contact(fmt.Sprint("bsuid:", i))
		expectContact(d, key, key)
		if i < parley.MaxAbsorbed {
			expectContact(d, "phone:old", key, "phone:old")
		}
	}
	last := parley.Contact(fmt.Sprint("bsuid:", parley.MaxAbsorbed))
	expectContact(d, last, last, "phone:old")
	expectContact(d, "phone:old", "phone:old", last)
	expectContact(d, last, last)
	d.same("absorbed", len(d.load(person("phone:old")).Snapshot.Absorbed), parley.MaxAbsorbed)
}

func mergeBrandsAndChannelsApart(_ *testing.T, d *desk) {
	others := []parley.Channel{number(), number(), number()}
	others[0].Brand, others[1].ID, others[2].Kind = "other", "another", parley.WhatsAppAccount
	for _, ch := range others {
		for _, key := range []parley.Contact{"phone:1", "bsuid:x"} {
			d.say(parley.Conversation{Channel: ch, Contact: key}, "elsewhere")
		}
	}
	strangers(d)
	meet(d, "bsuid:x", "phone:1")
	for _, ch := range others {
		for _, key := range []parley.Contact{"phone:1", "bsuid:x"} {
			c := parley.Conversation{Channel: ch, Contact: key}
			d.same("conversation", d.say(c, "again").Conversation, c)
			l := d.load(c)
			d.same("snapshot elsewhere", l.Snapshot, parley.Snapshot{Conversation: c})
			d.same("rows elsewhere", len(l.Pending), 2)
		}
	}
}
