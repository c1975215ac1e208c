package actors_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/actors/wire"
)

// FuzzParcel: whatever comes is read without harm, and the rows that are read come out
// the same when they are passed on, but for those that are too large to be sent along.
func FuzzParcel(f *testing.F) {
	b, err := proto.Marshal(ageless())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &wire.Parcel{}
		if proto.Unmarshal(b, p) != nil {
			return
		}
		rows, err := actors.RowsFromWire(p.GetRows())
		if err != nil && len(rows) == len(p.GetRows()) {
			t.Errorf("all %d rows are read, and %v", len(rows), err)
		}
		out, _, err := actors.RowsToWire(rows)
		if err != nil {
			t.Fatalf("%d rows can't be written: %v", len(rows), err)
		}
		again, err := actors.RowsFromWire(out)
		if err != nil {
			t.Fatalf("%d rows can't be passed on: %v", len(rows), err)
		}
		small := []actors.Routed{}
		for i := range rows {
			if len(rows[i].Data) <= 64<<10 {
				small = append(small, rows[i])
			}
		}
		if diff := cmp.Diff(small, again); diff != "" {
			t.Errorf("passed on (-as it came +as it goes):\n%s", diff)
		}
	})
}

// FuzzReceive has another node send anything. Hints may be lies: nothing takes effect but
// what is in the inbox, once; and the node goes on to run what it owns.
func FuzzReceive(f *testing.F) {
	ch := &wire.Channel{Brand: []byte("acme"), Kind: []byte("messenger"), Id: []byte("page")}
	for _, p := range []*wire.Parcel{
		ageless(),
		{From: "z", Rows: []*wire.Row{{Channel: ch, Contact: []byte("user:1"), Seq: 1, Key: make([]byte, 16), Data: []byte(`{"kind":"message","input":{"text":"forged"}}`), Passes: 4294967295}}},
		{From: "z", Wakes: []*wire.Wake{{Channel: ch, Contact: []byte("user:1")}, {Contact: []byte("user:1")}}},
		{From: "z", Releases: []*wire.Release{{Claim: 1, Shards: bytes.Repeat([]byte{0xff}, 600)}}, Released: []*wire.Released{{Claim: 1, Shards: bytes.Repeat([]byte{0xff}, 512)}}},
		{From: "a", Run: 1, Number: 1, TakenRun: 1, Taken: 1 << 63, Reports: []*wire.Report{{Id: 1}, {Id: 1}}, Drain: true, Calls: true},
		{From: "z", Sent: []*wire.Sent{{Channel: ch, Id: make([]byte, 16), ProviderId: []byte("mid")}, {Channel: ch, Id: []byte("short"), ProviderId: []byte("mid")}, {}, {Channel: ch, Id: make([]byte, 16), ProviderId: []byte{0xff, 0}}}},
	} {
		b, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	w := newTown(f)
	w.sweep = 300 * time.Millisecond // what is lost among lies is found by the sweeper: Go has 10 s for a run
	w.settle("a")
	w.place(plan{owners: []string{"a"}, nodes: []string{"a", "z"}})
	w.held(map[string]int{"a": parley.Shards})
	said := map[parley.Conversation]bool{}
	f.Fuzz(func(t *testing.T, b []byte) {
		if proto.Unmarshal(b, &wire.Parcel{}) != nil {
			return // its connection ends: TestRemote
		}
		w.TB = t
		w.fabric.links["a"].in <- b
		c := talk(int(w.n.Load()))
		said[c] = true
		w.say("a", c, "hi")
		w.counts(c, 1)
		w.ran.Range(func(key, _ any) bool {
			if c, ok := key.(parley.Conversation); !ok || !said[c] {
				t.Errorf("%v took a turn, and nothing was ever said to it", key)
			}
			return true
		})
	})
}

// FuzzNotes begins with any file of notes of running turns. It is taken or forgotten, and
// a row that is noted now counts as attempted once more for the next process: at the second
// attempt it is condemned, and more aren't counted.
func FuzzNotes(f *testing.F) {
	path := filepath.Join(f.TempDir(), "running")
	n, err := actors.OpenNotes(path)
	if err != nil {
		f.Fatal(err)
	}
	n.Running(3, parley.Row{Seq: 5, Token: 6})
	if err := n.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint64(5), uint64(6))
	f.Add(whole[:100], uint64(5), uint64(6))
	f.Add([]byte{}, uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, file []byte, seq, token uint64) {
		if len(file) > len(whole) {
			return
		}
		path := filepath.Join(t.TempDir(), "running")
		if err := os.WriteFile(path, append(bytes.Clone(file), whole[len(file):]...), 0o600); err != nil {
			t.Fatal(err)
		}
		row := parley.Row{Seq: parley.Seq(seq), Token: parley.Token(token)}
		if row.Seq == 0 {
			return
		}
		before := reopened(t, path, row)
		if got := reopened(t, path, row); got != min(before+1, 2) && noted(file) < 1024 {
			t.Errorf("%d attempts after %d: it was running when the process died", got, before)
		}
	})
}

// reopened opens notes as the next process does, notes that a row is being run, and
// returns how often it was before.
func reopened(t *testing.T, path string, row parley.Row) int {
	t.Helper()
	n, err := actors.OpenNotes(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	attempts := n.Attempts(row)
	n.Running(0, row)
	return attempts
}

// noted is how many entries of a file are not empty, at least.
func noted(file []byte) (n int) {
	for at := 16; at+24 <= len(file); at += 24 {
		if binary.LittleEndian.Uint64(file[at:]) != 0 {
			n++
		}
	}
	return n
}
