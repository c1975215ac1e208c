package ingress_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everything is arrivals in which each field says something.
func everything() parley.Arrivals {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	page, number := pageChannel(), waChannel()
	return parley.Arrivals{
		Events: []parley.Event{
			{
				Channel: number, Contacts: []parley.Contact{"bsuid:x", "phone:4912"}, Key: parley.NewEventKey("a"), Time: at,
				Input: parley.Message{ID: "wamid.1", Text: "hi \u0000 there", Extra: []byte(`{"order":[1,2]}`)},
			},
			{Channel: page, Contacts: []parley.Contact{"user:1"}, Key: parley.NewEventKey("b"), Input: parley.Postback{Title: "Yes"}, Late: true},
		},
		Receipts: []parley.Receipt{
			{
				Channel: page, Status: parley.StatusFailed, ProviderID: "m_1", Row: parley.NewID(at, [16]byte{1, 2, 3}),
				Contact: "user:1", Watermark: at.Add(time.Second), Time: at, Code: -7, Reason: "no",
			},
			{Channel: number, Status: "something new"},
		},
		Quarantined: []parley.Quarantined{{
			ID: parley.NewID(at, [16]byte{4}), App: appName, Kind: parley.Instagram, ChannelID: strangeID, Cause: "unknown channel",
			Body: []byte("{\"odd\":\"\x00\xff\"}"), Received: at,
		}},
	}
}

func TestArrivalsKeepEveryField(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		want := everything()
		b, err := ingress.EncodeArrivals(want, late)
		if err != nil {
			t.Fatal(err)
		}
		want.Events[0].Late = late
		got, err := ingress.DecodeArrivals(b)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "arrivals", got, want)
		clear(b)
		same(t, "arrivals, after the buffer was used again", got, want)
	}
	checkEveryField(t)
}

// checkEveryField fails when a type has a field that everything doesn't set: the
// codec may not know of it.
func checkEveryField(t *testing.T) {
	t.Helper()
	a := everything()
	a.Events[0].Late = true
	for _, of := range []any{a, a.Events[0], a.Receipts[0], a.Quarantined[0], a.Events[0].Channel} {
		v := reflect.ValueOf(of)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not set", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}

func TestArrivalsAreRefused(t *testing.T) {
	t.Parallel()
	good, err := ingress.EncodeArrivals(everything(), false)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := ingress.DecodeArrivals(good[:n]); err == nil {
			t.Fatalf("the first %d bytes of %d are arrivals, too", n, len(good))
		}
	}
	if _, err := ingress.DecodeArrivals(append(slices.Clone(good), 0)); err == nil {
		t.Error("a byte too many is taken")
	}
	newer := slices.Clone(good)
	newer[0]++
	if _, err := ingress.DecodeArrivals(newer); !errors.Is(err, parley.ErrFormat) {
		t.Errorf("a newer format: %v", err)
	}
	kind := bytes.Replace(good, []byte(`"postback"`), []byte(`"poltback"`), 1)
	if _, err := ingress.DecodeArrivals(kind); !errors.Is(err, parley.ErrFormat) {
		t.Errorf("an input of a newer kind: %v", err)
	}
	if _, err := ingress.DecodeArrivals([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}); err == nil {
		t.Error("a number of events that can't be is taken")
	}
}

func FuzzDecodeArrivals(f *testing.F) {
	for _, a := range []parley.Arrivals{everything(), say("x"), {}, {Receipts: everything().Receipts}} {
		b, err := ingress.EncodeArrivals(a, true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	empty := cmpopts.EquateEmpty()
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ingress.DecodeArrivals(b)
		if err != nil {
			return
		}
		b2, err := ingress.EncodeArrivals(a, false)
		if err != nil {
			return // contacts and channels are looked at when they come in, not when they come back
		}
		a2, err := ingress.DecodeArrivals(b2)
		if err != nil {
			t.Fatalf("what was encoded anew: %v", err)
		}
		b3, err := ingress.EncodeArrivals(a2, false) // JSON has lost its spaces by now
		if err != nil || !bytes.Equal(b2, b3) {
			t.Fatalf("encoded twice: %v\n%x\n%x", err, b2, b3)
		}
		if d := cmp.Diff(a.Receipts, a2.Receipts, empty) + cmp.Diff(a.Quarantined, a2.Quarantined, empty); d != "" {
			t.Fatalf("decoded, encoded and decoded (-want +got):\n%s", d)
		}
	})
}

// TestSpoolFormat holds the bytes of a segment to what was written once, in both
// directions.
func TestSpoolFormat(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "spool-1.hex")
	const name = "spool-0000000000000001.log"
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(1), db)
		if _, err := g.Append(t.Context(), everything()); err != nil {
			t.Fatal(err)
		}
		g.append(t, "the second")
		if *update {
			if err := os.WriteFile(golden, hexLines(g.disk.files[name].synced), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "segment", string(hexLines(g.disk.files[name].synced)), string(text))

		want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		disk := newPlatter(1)
		disk.files[name] = &inode{data: want, synced: want}
		again := openSpool(t, disk, newBase())
		again.run(t)
		synctest.Wait()
		all := everything()
		all.Events[0].Late = true
		all.Events = append(all.Events, say("the second").Events...)
		all.Events[2].Late = true
		again.base.look(func() {
			same(t, "events", again.base.rows, all.Events)
			same(t, "receipts", again.base.receip, all.Receipts)
			same(t, "quarantined", again.base.quar, all.Quarantined)
		})
	})
}

func hexLines(b []byte) []byte {
	var out []byte
	for line := range slices.Chunk(b, 32) {
		out = append(hex.AppendEncode(out, line), '\n')
	}
	return out
}
