package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runAppend(t *testing.T, open Open) {
	t.Helper()
	t.Run("DurableNumbersGrow", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		last := parley.Seq(0)
		for i := range 20 {
			for _, p := range d.append(d.event(conv("a"), "x"), d.event(conv("b"), "y")) {
				if p.Seq <= last && i > 0 {
					t.Fatalf("row %d after row %d", p.Seq, last)
				}
				last = max(last, p.Seq)
			}
		}
	})
	t.Run("ReturnsWhatLoadFinds", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
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
	})
	t.Run("ReceivedByTheStoresClockNeverBack", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.clock.Add(1234567 * time.Nanosecond)
		first := d.say(conv("a"), "x")
		if want := d.clock.Now().Truncate(time.Millisecond); !first.Received.Equal(want) {
			t.Fatalf("received %v, want %v", first.Received, want)
		}
		d.clock.Add(-time.Hour)
		if second := d.say(conv("a"), "y"); second.Received.Before(first.Received) {
			t.Fatalf("received %v, after %v", second.Received, first.Received)
		}
	})
	t.Run("AnyBytesSurvive", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
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
	})
	t.Run("AnEventWithoutContactIsRefusedWhole", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		bad := d.event(conv("a"), "x")
		bad.Contacts = nil
		_, err := d.Append(t.Context(), parley.Arrivals{Events: []parley.Event{d.event(conv("a"), "y"), bad}})
		if err == nil {
			t.Fatal("no error")
		}
		d.same("rows", d.load(conv("a")).Pending, []parley.Pending(nil))
		d.same("backlog", d.backlog(), parley.Backlog{})
	})
	t.Run("ZeroProviderTimeStaysZero", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		e := d.event(conv("a"), "x")
		e.Time = time.Time{}
		if got := d.append(e)[0]; !got.Time.IsZero() || !d.load(conv("a")).Pending[0].Time.IsZero() {
			t.Fatal("the time isn't zero")
		}
	})
	t.Run("BrandsAreIsolated", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		other := parley.Conversation{Channel: parley.Channel{Brand: "acm", Kind: parley.Messenger, ID: "epage1"}, Contact: "user:a"}
		d.say(conv("a"), "mine")
		d.same("the other brand's rows", d.load(other).Pending, []parley.Pending(nil))
		theirs := d.say(other, "theirs")
		d.same("the other brand's rows", d.load(other).Pending, []parley.Pending{theirs})
		d.commit(d.turn(d.load(other)))
		if n := len(d.load(conv("a")).Pending); n != 1 {
			t.Fatalf("%d rows left to the first brand, want 1", n)
		}
	})
}

func runContacts(t *testing.T, open Open) {
	t.Helper()
	event := func(d *desk, keys ...parley.Contact) parley.Event {
		e := d.event(parley.Conversation{Channel: number(), Contact: keys[0]}, "hello")
		e.Contacts = keys
		return e
	}
	expect := func(d *desk, want parley.Contact, keys ...parley.Contact) {
		d.t.Helper()
		d.same(fmt.Sprint("conversation of ", keys), d.append(event(d, keys...))[0].Conversation.Contact, want)
	}
	t.Run("SetOfKeys", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		expect(d, "phone:1", "phone:1")
		expect(d, "phone:1", "bsuid:x", "phone:1") // a new key of a known contact
		expect(d, "phone:1", "bsuid:x")            // known by now
		expect(d, "phone:1", "bsuid:x", "phone:2") // a new number
		expect(d, "phone:1", "phone:2")
		expect(d, "bsuid:y", "bsuid:y", "phone:3") // nobody known: the strongest
		expect(d, "bsuid:y", "phone:3")
		expect(d, "phone:4", "phone:4")
		d.same("rows", len(d.load(parley.Conversation{Channel: number(), Contact: "phone:1"}).Pending), 5)
	})
	t.Run("WithinOneGroup", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		for _, p := range d.append(event(d, "bsuid:x", "phone:1"), event(d, "phone:1"), event(d, "bsuid:z", "phone:1")) {
			d.same("conversation", p.Conversation.Contact, parley.Contact("bsuid:x"))
		}
	})
	t.Run("ByChannel", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		expect(d, "bsuid:x", "bsuid:x", "phone:1")
		e := event(d, "phone:1")
		e.Channel.ID = "another"
		d.same("conversation", d.append(e)[0].Conversation.Contact, parley.Contact("phone:1"))
	})
	t.Run("TwoKnownTheStrongestWins", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		expect(d, "phone:1", "phone:1")
		expect(d, "bsuid:x", "bsuid:x")
		expect(d, "bsuid:x", "bsuid:x", "phone:1")
		expect(d, "phone:1", "phone:1")
	})
	t.Run("OtherChannelsHaveOneKey", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		e := d.event(conv("a"), "x")
		e.Contacts = []parley.Contact{"user:a", "userref:b"}
		d.same("conversation", d.append(e)[0].Conversation, conv("a"))
	})
}

func runQuarantine(t *testing.T, open Open) {
	t.Helper()
	entry := func(body string) parley.Quarantined {
		return parley.Quarantined{App: "app", Kind: parley.Messenger, ChannelID: "page1", Cause: "unknown channel", Body: []byte(body)}
	}
	keep := func(d *desk, entries ...parley.Quarantined) {
		d.t.Helper()
		if _, err := d.Append(d.t.Context(), parley.Arrivals{Quarantined: entries}); err != nil {
			d.t.Fatal(err)
		}
	}
	read := func(d *desk, after parley.ID, limit int) []parley.Quarantined {
		d.t.Helper()
		found, err := d.Quarantined(d.t.Context(), "app", page(), after, limit)
		if err != nil {
			d.t.Fatal(err)
		}
		return found
	}
	t.Run("KeptWholeInOrder", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		var want []string
		for i := range 30 {
			body := fmt.Sprintf("{\"n\":%d,\"odd\":\"\x00\xff\"}", i)
			want = append(want, body)
			keep(d, entry(body))
			d.clock.Add(time.Duration(i%2) * time.Millisecond)
		}
		keep(d, parley.Quarantined{App: "app", Cause: "shape", Body: []byte("of no channel")})
		var got []string
		after := parley.ID{}
		for {
			found := read(d, after, 7)
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
	})
	t.Run("OfItsChannelAndApp", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		keep(d, entry("mine"))
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
	})
	t.Run("ReleaseIsAtomic", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		keep(d, entry("one"), entry("two"), entry("three"))
		found := read(d, parley.ID{}, 10)
		bad := d.event(conv("a"), "x")
		bad.Contacts = nil
		ids := []parley.ID{found[0].ID, found[2].ID}
		if _, err := d.Release(t.Context(), ids, parley.Arrivals{Events: []parley.Event{bad}}); err == nil {
			t.Fatal("released into nothing")
		}
		d.same("entries after a failed release", read(d, parley.ID{}, 10), found)
		rows, err := d.Release(t.Context(), ids, parley.Arrivals{Events: []parley.Event{d.event(conv("a"), "x")}})
		if err != nil || len(rows) != 1 {
			t.Fatalf("release: %v %v", rows, err)
		}
		d.same("entries", read(d, parley.ID{}, 10), found[1:2])
		d.same("rows", d.load(conv("a")).Pending, rows)
		d.same("quarantined", d.backlog().Quarantined, 1)
	})
	t.Run("ReleaseOfNothingThere", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		keep(d, entry("one"))
		ids := []parley.ID{read(d, parley.ID{}, 1)[0].ID}
		for range 2 {
			if _, err := d.Release(t.Context(), ids, parley.Arrivals{}); err != nil {
				t.Fatal(err)
			}
			d.same("quarantined", d.backlog().Quarantined, 0)
		}
	})
}
