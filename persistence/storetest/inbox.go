package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runAppend(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"DurableNumbersGrow":                  appendDurableNumbersGrow,
		"ReturnsWhatLoadFinds":                appendReturnsWhatLoadFinds,
		"ReceivedByTheStoresClockNeverBack":   appendReceivedByTheStoresClockNeverBack,
		"AnyBytesSurvive":                     appendAnyBytesSurvive,
		"AnEventWithoutContactIsRefusedWhole": appendAnEventWithoutContactIsRefusedWhole,
		"AnEventWithoutAFormIsRefusedWhole":   appendAnEventWithoutAFormIsRefusedWhole,
		"ZeroProviderTimeStaysZero":           appendZeroProviderTimeStaysZero,
		"BrandsAreIsolated":                   appendBrandsAreIsolated,
		"LateIsKept":                          appendLateIsKept,
	})
}

func appendDurableNumbersGrow(t *testing.T, d *desk) {
	last := parley.Seq(0)
	for range 20 {
		before := last
		for _, p := range d.append(d.event(conv("a"), "x"), d.event(conv("b"), "y")) {
			if p.Seq <= before {
				t.Fatalf("row %d after row %d had been returned", p.Seq, before)
			}
			last = max(last, p.Seq)
		}
	}
}

func appendReturnsWhatLoadFinds(t *testing.T, d *desk) {
	rows := d.append(d.event(conv("a"), "one"), d.event(conv("b"), "two"), d.event(conv("a"), "three"))
	d.same("rows of a", d.load(conv("a")).Pending, []parley.Pending{rows[0], rows[2]})
	d.same("rows of b", d.load(conv("b")).Pending, []parley.Pending{rows[1]})
	for _, p := range rows {
		in, err := parley.DecodeInput(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		d.same("input of Data", in, p.Input)
	}
	if rows[0].Token == rows[1].Token {
		t.Error("two rows have the same token")
	}
}

func appendReceivedByTheStoresClockNeverBack(t *testing.T, d *desk) {
	d.clock.Add(1234567 * time.Nanosecond)
	first := d.say(conv("a"), "x")
	if want := d.clock.Now().Truncate(time.Millisecond); !first.Received.Equal(want) {
		t.Fatalf("received %v, want %v", first.Received, want)
	}
	d.clock.Add(-time.Hour)
	if second := d.say(conv("a"), "y"); second.Received.Before(first.Received) {
		t.Fatalf("received %v, after %v", second.Received, first.Received)
	}
}

func appendAnyBytesSurvive(t *testing.T, d *desk) {
	odd := []string{"\u0000", "\xff\xfe", "/", "a/b", "", " ", "\U0001f984", "user:\x00\x01"}
	for _, s := range odd {
		c := parley.Conversation{Channel: page(), Contact: parley.Contact("user:" + s)}
		p := d.say(c, "nul \u0000 in a text")
		d.same("conversation", p.Conversation, c)
		d.same("rows", d.load(c).Pending, []parley.Pending{p})
		turn := d.turn(d.load(c))
		turn.Next.State, turn.Next.Behavior = []byte("\x00\xff"+s), s
		d.commit(turn)
		d.same("snapshot", d.load(c).Snapshot, turn.Next)
	}
}

func appendAnEventWithoutContactIsRefusedWhole(t *testing.T, d *desk) {
	for _, nobody := range [][]parley.Contact{nil, {""}, {"user:1", ""}} { // of an empty one, all who have it would be one person
		bad := d.event(conv("a"), "x")
		bad.Contacts = nobody
		d.refuses(bad)
	}
	d.same("rows", d.load(conv("a")).Pending, []parley.Pending(nil))
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func appendAnEventWithoutAFormIsRefusedWhole(t *testing.T, d *desk) {
	bad := d.event(conv("a"), "x")
	bad.Input = parley.Message{Extra: []byte("{")}
	d.refuses(bad)
	d.same("backlog", d.backlog(), parley.Backlog{})
}

// refuses checks that a group with the event in it isn't taken, for what is in it:
// if the store said that it isn't available, it would be asked again for ever.
func (d *desk) refuses(bad parley.Event) {
	d.t.Helper()
	_, err := d.Append(d.t.Context(), parley.Arrivals{Events: []parley.Event{d.event(conv("a"), "y"), bad}})
	if err == nil || errors.Is(err, parley.ErrUnavailable) {
		d.t.Fatalf("append of contacts %q: %v", bad.Contacts, err)
	}
}

func appendZeroProviderTimeStaysZero(t *testing.T, d *desk) {
	e := d.event(conv("a"), "x")
	e.Time = time.Time{}
	if got := d.append(e)[0]; !got.Time.IsZero() || !d.load(conv("a")).Pending[0].Time.IsZero() {
		t.Fatal("the time isn't zero")
	}
}

// appendLateIsKept looks before and after the store was closed, if it outlives that.
func appendLateIsKept(t *testing.T, d *desk) {
	late := d.event(conv("a"), "from a spool")
	late.Late = true
	rows := d.append(d.event(conv("a"), "one"), late, d.event(conv("a"), "two"))
	for i, want := range []bool{false, true, false} {
		if rows[i].Late != want {
			t.Errorf("row %d returned by Append: late is %v, want %v", i, rows[i].Late, want)
		}
	}
	d.same("rows", d.load(conv("a")).Pending, rows)
	if _, err := d.Release(t.Context(), nil, parley.Arrivals{Events: []parley.Event{late}}); err != nil {
		t.Fatal(err)
	}
	if p := d.load(conv("a")).Pending; len(p) != 4 || !p[3].Late {
		t.Fatalf("a late event that was released: %+v", p)
	}
	d.reopen()
	for i, p := range d.load(conv("a")).Pending {
		if want := i%2 == 1; p.Late != want {
			t.Errorf("row %d after opening again: late is %v, want %v", i, p.Late, want)
		}
	}
}

func appendBrandsAreIsolated(t *testing.T, d *desk) {
	other := parley.Conversation{Channel: parley.Channel{Brand: "acm", Kind: parley.Messenger, ID: "epage1"}, Contact: "user:a"}
	d.say(conv("a"), "mine")
	d.same("the other brand's rows", d.load(other).Pending, []parley.Pending(nil))
	theirs := d.say(other, "theirs")
	d.same("the other brand's rows", d.load(other).Pending, []parley.Pending{theirs})
	d.commit(d.turn(d.load(other)))
	if n := len(d.load(conv("a")).Pending); n != 1 {
		t.Fatalf("%d rows left to the first brand, want 1", n)
	}
}

func runContacts(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"SetOfKeys":               contactsSetOfKeys,
		"WithinOneGroup":          contactsWithinOneGroup,
		"ByChannel":               contactsByChannel,
		"OtherChannelsHaveOneKey": contactsOtherChannelsHaveOneKey,
	})
}

func contactEvent(d *desk, keys ...parley.Contact) parley.Event {
	e := d.event(parley.Conversation{Channel: number(), Contact: keys[0]}, "hello")
	e.Contacts = keys
	return e
}

func expectContact(d *desk, want parley.Contact, keys ...parley.Contact) {
	d.t.Helper()
	d.same(fmt.Sprint("conversation of ", keys), d.append(contactEvent(d, keys...))[0].Conversation.Contact, want)
}

func contactsSetOfKeys(t *testing.T, d *desk) {
	expectContact(d, "phone:1", "phone:1")
	expectContact(d, "phone:1", "bsuid:x", "phone:1") // a new key of a known contact
	expectContact(d, "phone:1", "bsuid:x")            // known by now
	expectContact(d, "phone:1", "bsuid:x", "phone:2") // a new number
	expectContact(d, "phone:1", "phone:2")
	expectContact(d, "bsuid:y", "bsuid:y", "phone:3") // nobody known: the strongest
	expectContact(d, "bsuid:y", "phone:3")
	expectContact(d, "phone:4", "phone:4")
	d.same("rows", len(d.load(parley.Conversation{Channel: number(), Contact: "phone:1"}).Pending), 5)
}

func contactsWithinOneGroup(t *testing.T, d *desk) {
	for _, p := range d.append(contactEvent(d, "bsuid:x", "phone:1"), contactEvent(d, "phone:1"), contactEvent(d, "bsuid:z", "phone:1")) {
		d.same("conversation", p.Conversation.Contact, parley.Contact("bsuid:x"))
	}
}

func contactsByChannel(t *testing.T, d *desk) {
	expectContact(d, "bsuid:x", "bsuid:x", "phone:1")
	e := contactEvent(d, "phone:1")
	e.Channel.ID = "another"
	d.same("conversation", d.append(e)[0].Conversation.Contact, parley.Contact("phone:1"))
}

func contactsOtherChannelsHaveOneKey(t *testing.T, d *desk) {
	e := d.event(conv("a"), "x")
	e.Contacts = []parley.Contact{"user:a", "userref:b"}
	d.same("conversation", d.append(e)[0].Conversation, conv("a"))
}

func runQuarantine(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"KeptWholeInOrder":      quarantineKeptWholeInOrder,
		"OfItsChannelAndApp":    quarantineOfItsChannelAndApp,
		"ReleaseIsAtomic":       quarantineReleaseIsAtomic,
		"ReleaseOfNothingThere": quarantineReleaseOfNothingThere,
		"OneGoneNoneReleased":   quarantineOneGoneNoneReleased,
		"ReleasedByOne":         quarantineReleasedByOne,
	})
}

func quarEntry(body string) parley.Quarantined {
	return parley.Quarantined{App: "app", Kind: parley.Messenger, ChannelID: "page1", Cause: "unknown channel", Body: []byte(body)}
}

func quarKeep(d *desk, entries ...parley.Quarantined) {
	d.t.Helper()
	if _, err := d.Append(d.t.Context(), parley.Arrivals{Quarantined: entries}); err != nil {
		d.t.Fatal(err)
	}
}

func quarRead(d *desk, after parley.ID, limit int) []parley.Quarantined {
	d.t.Helper()
	found, err := d.Quarantined(d.t.Context(), "app", page(), after, limit)
	if err != nil {
		d.t.Fatal(err)
	}
	return found
}

func quarantineKeptWholeInOrder(t *testing.T, d *desk) {
	var want []string
	for i := range 30 {
		body := fmt.Sprintf("{\"n\":%d,\"odd\":\"\x00\xff\"}", i)
		want = append(want, body)
		quarKeep(d, quarEntry(body))
		d.clock.Add(time.Duration(i%2) * time.Millisecond)
	}
	quarKeep(d, parley.Quarantined{App: "app", Cause: "shape", Body: []byte("of no channel")})
	var got []string
	after := parley.ID{}
	for {
		found := quarRead(d, after, 7)
		for _, q := range found {
			if q.App != "app" || q.Kind != parley.Messenger || q.ChannelID != "page1" || q.Cause != "unknown channel" || q.Received.IsZero() {
				t.Fatalf("entry came back as %+v", q)
			}
			got, after = append(got, string(q.Body)), q.ID
		}
		if len(found) < 7 {
			break
		}
	}
	d.same("bodies", got, want)
	d.same("backlog", d.backlog().Quarantined, 31)
}

func quarantineOfItsChannelAndApp(t *testing.T, d *desk) {
	quarKeep(d, quarEntry("mine"))
	for _, other := range []struct {
		app parley.App
		ch  parley.Channel
	}{
		{"other", page()},
		{"app", parley.Channel{Brand: "acme", Kind: parley.Instagram, ID: "page1"}},
		{"app", parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}},
	} {
		found, err := d.Quarantined(t.Context(), other.app, other.ch, parley.ID{}, 10)
		if err != nil || len(found) > 0 {
			t.Fatalf("%v: %v %v", other, found, err)
		}
	}
}

func quarantineReleaseIsAtomic(t *testing.T, d *desk) {
	quarKeep(d, quarEntry("one"), quarEntry("two"), quarEntry("three"))
	found := quarRead(d, parley.ID{}, 10)
	bad := d.event(conv("a"), "x")
	bad.Contacts = nil
	ids := []parley.ID{found[0].ID, found[2].ID}
	if _, err := d.Release(t.Context(), ids, parley.Arrivals{Events: []parley.Event{bad}}); err == nil {
		t.Fatal("released into nothing")
	}
	d.same("entries after a failed release", quarRead(d, parley.ID{}, 10), found)
	rows, err := d.Release(t.Context(), ids, parley.Arrivals{Events: []parley.Event{d.event(conv("a"), "x")}})
	if err != nil || len(rows) != 1 {
		t.Fatalf("release: %v %v", rows, err)
	}
	d.same("entries", quarRead(d, parley.ID{}, 10), found[1:2])
	d.same("rows", d.load(conv("a")).Pending, rows)
	d.same("quarantined", d.backlog().Quarantined, 1)
}

func quarantineReleaseOfNothingThere(t *testing.T, d *desk) {
	quarKeep(d, quarEntry("one"))
	ids := []parley.ID{quarRead(d, parley.ID{}, 1)[0].ID}
	for range 2 {
		if _, err := d.Release(t.Context(), ids, parley.Arrivals{}); err != nil {
			t.Fatal(err)
		}
		d.same("quarantined", d.backlog().Quarantined, 0)
	}
}

// quarantineReleasedByOne: nodes that learn a channel at the same time.
func quarantineReleasedByOne(t *testing.T, d *desk) {
	const entries, parts = 12, 4
	for i := range entries {
		quarKeep(d, quarEntry(fmt.Sprint(i)))
	}
	found := quarRead(d, parley.ID{}, entries)
	var mu sync.Mutex
	var released []parley.Pending
	d.together(func(ctx context.Context, w int, own *desk) error {
		for part := range parts {
			var ids []parley.ID
			var a parley.Arrivals
			for i := range entries / parts {
				ids = append(ids, found[part*entries/parts+(i+w)%(entries/parts)].ID)
				a.Events = append(a.Events, own.event(conv("a"), "x"))
			}
			rows, err := own.Release(ctx, ids, a)
			if errors.Is(err, parley.ErrConflict) && len(rows) == 0 {
				continue
			}
			if err != nil {
				return fmt.Errorf("part %d: %w", part, err)
			}
			mu.Lock()
			released = append(released, rows...)
			mu.Unlock()
		}
		return nil
	})
	if len(released) != entries {
		t.Errorf("%d entries became %d rows", entries, len(released))
	}
	d.same("pending", len(d.load(conv("a")).Pending), entries)
	d.same("quarantined", d.backlog().Quarantined, 0)
}

// quarantineOneGoneNoneReleased: what another has released isn't appended again,
// nor is anything released that was named beside it.
func quarantineOneGoneNoneReleased(t *testing.T, d *desk) {
	quarKeep(d, quarEntry("one"), quarEntry("two"))
	found := quarRead(d, parley.ID{}, 10)
	a := parley.Arrivals{Events: []parley.Event{d.event(conv("a"), "x")}}
	if _, err := d.Release(t.Context(), []parley.ID{found[0].ID, found[0].ID}, a); err != nil {
		t.Fatal(err)
	}
	pending := d.load(conv("a")).Pending
	if _, err := d.Release(t.Context(), []parley.ID{found[1].ID, found[0].ID}, a); !errors.Is(err, parley.ErrConflict) {
		t.Fatalf("release of one that was released: %v", err)
	}
	d.same("pending", d.load(conv("a")).Pending, pending)
	d.same("entries", quarRead(d, parley.ID{}, 10), found[1:])
}
