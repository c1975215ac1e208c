package parley_test

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

func snapshots() *rapid.Generator[parley.Snapshot] {
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.UnixMilli(rapid.Int64Range(1, 1<<50).Draw(t, "ms")).UTC()
	})
	return rapid.Custom(func(t *rapid.T) parley.Snapshot {
		s := parley.Snapshot{
			Conversation: talk(),
			Version:      parley.Version{Number: rapid.Uint64().Draw(t, "number"), Token: parley.Token(rapid.Uint64().Draw(t, "token"))},
			Bot:          rapid.String().Draw(t, "bot"),
			BotVersion:   rapid.Int().Draw(t, "bot version"),
			Behavior:     rapid.String().Draw(t, "behavior"),
			State:        rapid.SliceOf(rapid.Byte()).Draw(t, "state"),
			Generation:   rapid.Uint64().Draw(t, "generation"),
			Ordinal:      rapid.Uint64().Draw(t, "ordinal"),
			Last:         moment.Draw(t, "last"),
			Ahead:        moment.Draw(t, "ahead"),
		}
		for range rapid.IntRange(0, 4).Draw(t, "timers") {
			timer := parley.Timer{
				Name: rapid.String().Draw(t, "name"), Generation: rapid.Uint64().Draw(t, "generation"), Due: moment.Draw(t, "due"),
			}
			invent(t, reflect.ValueOf(&timer.ID).Elem())
			s.Timers = append(s.Timers, timer)
		}
		for range rapid.IntRange(0, parley.InlineSeen).Draw(t, "seen") {
			key := parley.SeenKey{At: moment.Draw(t, "at")}
			invent(t, reflect.ValueOf(&key.Key).Elem())
			s.Seen = append(s.Seen, key)
		}
		if rapid.Bool().Draw(t, "merged") {
			invent(t, reflect.ValueOf(&s.MergedInto).Elem())
		}
		if rapid.Bool().Draw(t, "absorbed") {
			invent(t, reflect.ValueOf(&s.Absorbed).Elem())
		}
		return s
	})
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := snapshots().Draw(t, "snapshot")
		data, err := want.AppendBinary([]byte("prefix"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "prefix") {
			t.Fatal("the prefix is gone")
		}
		data = data[len("prefix"):]
		got := parley.Snapshot{Conversation: talk(), Bot: "of an earlier life", Seen: make([]parley.SeenKey, 3)}
		if err := got.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		clear(data) // it copies
		diff(t, "snapshot", want, got)
	})
}

// One field after the other is set to something: each must come back. It fails
// when a field is added to Snapshot and not to its stored form.
func TestSnapshotStoresEveryField(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want parley.Snapshot
		v := reflect.ValueOf(&want).Elem()
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Conversation" { // the key it is stored under
				invent(t, v.Field(i))
			}
		}
		data, err := want.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got parley.Snapshot
		if err := got.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		diff(t, "snapshot", want, got)
	})
}

func storedSnapshot() (parley.Snapshot, string) {
	s := parley.Snapshot{
		Conversation: talk(), Version: parley.Version{Number: 300, Token: 0x0102030405060708},
		Bot: "pizza", BotVersion: -1, Behavior: "menu", State: []byte(`{}`), Generation: 2, Ordinal: 3,
		Last: time.UnixMilli(1).UTC(), Ahead: time.UnixMilli(2).UTC(),
		Timers: []parley.Timer{{ID: parley.ID{1, 15: 2}, Name: "t", Generation: 1, Due: time.UnixMilli(64).UTC()}},
		Seen:   []parley.SeenKey{{Key: parley.EventKey{3, 15: 4}, At: time.UnixMilli(-1).UTC()}},
	}
	return s, "01" + "ac02" + "0102030405060708" + "05" + hex.EncodeToString([]byte("pizza")) + "01" +
		"04" + hex.EncodeToString([]byte("menu")) + "02" + "7b7d" + "02" + "03" + "02" + "04" +
		"01" + "01" + strings.Repeat("00", 14) + "02" + "0174" + "01" + "8001" +
		"01" + "03" + strings.Repeat("00", 14) + "04" + "01"
}

// What is stored today must be readable for ever.
func TestSnapshotStoredFormat(t *testing.T) {
	t.Parallel()
	s, want := storedSnapshot()
	data, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "stored", want, hex.EncodeToString(data))
}

// What tells of a merge is stored in the second format, the rest stays in the
// first, which older programs read.
func TestSnapshotStoredFormatOfMerged(t *testing.T) {
	t.Parallel()
	s, plain := storedSnapshot()
	s.MergedInto, s.Absorbed = "user:1", []parley.Contact{"user:2", "phone:3"}
	data, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	contact := func(c string) string { return "0" + strconv.Itoa(len(c)) + hex.EncodeToString([]byte(c)) }
	want := "02" + plain[2:] + contact("user:1") + "02" + contact("user:2") + contact("phone:3")
	diff(t, "stored", want, hex.EncodeToString(data))
}

func TestUnmarshalSnapshotRefuses(t *testing.T) {
	t.Parallel()
	plain, _ := storedSnapshot()
	merged := plain
	merged.Absorbed = []parley.Contact{"user:2"}
	refusesSpoiled(t, plain, 23)
	refusesSpoiled(t, merged, 8)
}

// refusesSpoiled spoils the stored form of s, which has a count that many bytes
// before its end.
func refusesSpoiled(t *testing.T, s parley.Snapshot, behind int) {
	t.Helper()
	good, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, data []byte, newer bool) {
		got := parley.Snapshot{Bot: "as it was"}
		err := got.UnmarshalBinary(data)
		if err == nil || errors.Is(err, parley.ErrFormat) != newer {
			t.Errorf("%s: %v", what, err)
		}
		diff(t, what, parley.Snapshot{Bot: "as it was"}, got)
	}
	for n := range good {
		refuse("cut short", good[:n], false)
	}
	refuse("with more behind", append(slices.Clip(good), 0), false)
	newer := append([]byte(nil), good...)
	newer[0] = parley.SnapshotFormat + 1
	refuse("of a newer format", newer, true)
	refuse("of a newer format, in a form unknown", []byte{0xff}, true)
	refuse("of no format", append([]byte{0}, good[1:]...), false)
	count := len(good) - behind
	refuse("of absurd counts", append(good[:count:count], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), false)
}

func FuzzUnmarshalSnapshot(f *testing.F) {
	s, _ := storedSnapshot()
	merged, from := parley.Merge(s, parley.Snapshot{}, after(0), [16]byte{1})
	for _, s := range []parley.Snapshot{{}, s, merged.Next, from.Next, step(said(1, "say a;set t 1h")...).Next} {
		data, err := s.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s, again parley.Snapshot
		if s.UnmarshalBinary(data) != nil {
			return
		}
		stored, err := s.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalBinary(stored); err != nil {
			t.Fatal(err)
		}
		diff(t, "read again", s, again)
	})
}

func BenchmarkStep(b *testing.B) {
	rows := make([]string, parley.InlineSeen)
	for i := range rows {
		rows[i] = "x"
	}
	full := step(said(1, rows...)...).Next
	bot := &parley.Bot{Name: "counter", Behavior: parley.Stateful(func(t *parley.Turn, n *int) error {
		*n++
		t.Say("thank you")
		return nil
	})}
	full.State = []byte("7")
	row := said(1000, "x")
	b.ReportAllocs()
	for b.Loop() {
		c := parley.Step(bot, full, row, drawn(1))
		if len(c.Outbox) != 1 {
			b.Fatal(causes(c))
		}
	}
}
