package embedded_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

const (
	fullDir    = "store"
	fullSecret = "zanzibar" // in each text of the full store
)

// fullNow is when all of it happens, so that what is stored is the same each time.
func fullNow() time.Time { return time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC) }

// fullStore is a closed store that has something in each of its tables.
func fullStore(tb testing.TB) *vfs.MemFS {
	tb.Helper()
	fs := vfs.NewMem()
	empty := small(fs)
	empty.Existing = false
	s := must[*embedded.Store](tb)(embedded.Open(empty))
	ctx := context.Background()
	l := must[parley.Lease](tb)(s.Lease(ctx, testChannel(), "before", time.Hour, parley.Lease{}))
	for i := range 3 {
		fillConversation(tb, s, i)
	}
	claimed, _, err := s.Claim(ctx, l, parley.Places{All: 2}, time.Minute, time.Minute)
	if err != nil || len(claimed) != 2 {
		tb.Fatalf("%d claimed: %v", len(claimed), err)
	}
	if err := s.Settle(ctx, l, []parley.Outcome{{ID: claimed[0].ID, Kind: parley.Sent, ProviderID: "m_1"}}); err != nil {
		tb.Fatal(err)
	}
	q := parley.CallQuery{Services: []parley.CallPlaces{{Service: "s", Limit: 1, Lease: time.Hour}}}
	if _, _, err := s.ClaimCalls(ctx, q, time.Hour); err != nil {
		tb.Fatal(err)
	}
	fillReceipts(tb, s, l)
	fillMerged(tb, s)
	must[bool](tb)(s.Register(ctx, parley.Registration{App: "shop", Channel: testChannel()}))
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return fs
}

func small(fs vfs.FS) embedded.Config {
	return embedded.Config{Dir: fullDir, FS: fs, MemTableBytes: 1 << 20, CacheBytes: 1 << 20, SyncEvery: -1, Existing: true, Now: fullNow, Fatal: func(error) {}}
}

// fillConversation has a conversation that has met one event, waits with two, and has
// something of everything that a turn decides.
func fillConversation(tb testing.TB, s *embedded.Store, i int) {
	tb.Helper()
	ctx, c := context.Background(), testConversation(i)
	events := []parley.Event{testEvent(i), testEvent(i), testEvent(i)}
	events[1].Late = true
	for k := range events {
		events[k].Input, events[k].Key = parley.Message{Text: fullSecret}, parley.NewEventKey(fmt.Sprint(i, k))
	}
	rows := must[[]parley.Pending](tb)(s.Append(ctx, parley.Arrivals{Events: events}))
	loaded := must[parley.Loaded](tb)(s.Load(ctx, c, 1))
	turn := benchTurn(&loaded.Pending[0], loaded.Snapshot, rand.New(rand.NewPCG(uint64(i), 1)))
	turn.Next.State, turn.Next.Behavior, turn.History = []byte(`"`+fullSecret+`"`), "second", []byte(`{"turn":"`+fullSecret+`"}`)
	turn.Outbox[0].Send = parley.Send{Text: fullSecret, Bulk: i == 1}
	turn.Evicted = []parley.SeenKey{{Key: parley.NewEventKey("evicted"), At: rows[0].Received}}
	turn.Dead = []parley.DeadLetter{{ID: parley.NewID(rows[0].Received, [16]byte{byte(i)}), Conversation: c, At: rows[0].Received, Cause: "panic", Seq: rows[0].Seq, Data: []byte(`{"kind":"message","input":{"text":"` + fullSecret + `"}}`)}}
	id := parley.NewID(rows[0].Received, [16]byte{byte(i), 1})
	turn.Next.Timers = []parley.Timer{{ID: id, Name: "later", Generation: 1, Due: rows[0].Received.Add(time.Hour)}}
	turn.SetTimers = turn.Next.Timers
	turn.Calls = []parley.OutgoingCall{{ID: id, Conversation: c, At: rows[0].Received, Call: parley.Call{Name: "n", Service: "s", Body: []byte(`"` + fullSecret + `"`)}}}
	for _, err := range must[[]error](tb)(s.Commit(ctx, []parley.Commit{turn})) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	must[[]parley.Row](tb)(s.Try(ctx, []parley.Row{rows[1].Row}))
}

// fillReceipts has some that are folded, and some that wait, and updates in the
// quarantine.
func fillReceipts(tb testing.TB, s *embedded.Store, l parley.Lease) {
	tb.Helper()
	ctx := context.Background()
	status := func(id string, to parley.Status) parley.Receipt {
		return parley.Receipt{Channel: testChannel(), ProviderID: id, Status: to, Reason: fullSecret}
	}
	mark := parley.Receipt{Channel: testChannel(), Status: parley.StatusRead, Contact: testConversation(0).Contact, Watermark: fullNow()}
	must[[]parley.Pending](tb)(s.Append(ctx, parley.Arrivals{Receipts: []parley.Receipt{status("m_1", parley.StatusDelivered), status("x", parley.StatusFailed), mark}}))
	must[parley.Folded](tb)(s.Fold(ctx, l, 10))
	a := parley.Arrivals{Receipts: []parley.Receipt{status("m_1", parley.StatusRead), mark}}
	a.Quarantined = []parley.Quarantined{{App: "shop", Kind: parley.Messenger, ChannelID: "unknown", Cause: "no such channel", Body: []byte(`{"text":"` + fullSecret + `"}`)}}
	must[[]parley.Pending](tb)(s.Append(ctx, a))
}

// fillMerged has two conversations that turned out to be one.
func fillMerged(tb testing.TB, s *embedded.Store) {
	tb.Helper()
	for _, keys := range [][]parley.Contact{{"phone:1"}, {"bsuid:1"}, {"phone:1", "bsuid:1"}, {"bsuid:1"}} {
		must[[]parley.Pending](tb)(s.Append(context.Background(), heard(keys...)))
	}
}

// cloned is a copy of a store's files.
func cloned(tb testing.TB, fs vfs.FS) *vfs.MemFS {
	tb.Helper()
	to := vfs.NewMem()
	if _, err := vfs.Clone(fs, to, fullDir, fullDir); err != nil {
		tb.Fatal(err)
	}
	return to
}

type rawRow struct{ key, value []byte }

// withPebble opens the files beneath a store.
func withPebble(tb testing.TB, fs vfs.FS, do func(db *pebble.DB)) {
	tb.Helper()
	db := must[*pebble.DB](tb)(pebble.Open(fullDir, &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatWALSyncChunks, Logger: mute{}}))
	do(db)
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}

type mute struct{}

func (mute) Infof(string, ...any)           {}
func (mute) Errorf(string, ...any)          {}
func (mute) Fatalf(format string, _ ...any) { panic(format) }

// rawRows are all that is stored.
func rawRows(tb testing.TB, fs vfs.FS) (all []rawRow) {
	tb.Helper()
	withPebble(tb, cloned(tb, fs), func(db *pebble.DB) {
		it := must[*pebble.Iterator](tb)(db.NewIter(nil))
		for it.First(); it.Valid(); it.Next() {
			all = append(all, rawRow{bytes.Clone(it.Key()), bytes.Clone(it.Value())})
		}
		if err := it.Close(); err != nil {
			tb.Fatal(err)
		}
	})
	return all
}

// FuzzStored puts anything in the place of a row that is stored, or of its key. The store
// opens or says which table can't be read; whatever is asked of it then is answered, or
// ends in an error; it holds what it held when it is opened again; and no error repeats
// the text of a message.
func FuzzStored(f *testing.F) {
	full := fullStore(f)
	tables := map[byte][]rawRow{}
	for _, r := range rawRows(f, full) {
		table := r.key[0]
		nth := uint8(len(tables[table]))
		tables[table] = append(tables[table], r)
		f.Add(table, nth, false, r.value)
		f.Add(table, nth, true, r.key[1:])
		f.Add(table, nth, false, r.value[:len(r.value)/2])
	}
	if len(tables) != 24 {
		f.Errorf("the full store has rows in %d tables: %q", len(tables), slices.Sorted(maps.Keys(tables)))
	}
	f.Fuzz(func(t *testing.T, table, nth uint8, key bool, data []byte) {
		rows := tables[table]
		if len(rows) == 0 {
			return
		}
		fs, r := cloned(t, full), rows[int(nth)%len(rows)]
		withPebble(t, fs, func(db *pebble.DB) {
			k, v := r.key, data
			if key {
				k, v = slices.Concat(r.key[:1], data), r.value
				if err := db.Delete(r.key, pebble.NoSync); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Set(k, v, pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		})
		first, ok := inspect(t, fs)
		if again, stillOK := inspect(t, fs); ok && (!stillOK || first != again) {
			t.Errorf("opened again it holds something else, or doesn't open: %v", stillOK)
		}
		use(t, fs)
	})
}

// inspect opens a store, and says what it holds.
func inspect(t *testing.T, fs vfs.FS) (all parley.Tally, ok bool) {
	t.Helper()
	s, err := embedded.Open(small(fs))
	if err != nil {
		checkError(t, err)
		return all, false
	}
	err = s.Export(t.Context(), nil, func(part parley.Holdings, _ []byte) error { all.Add(&part); return nil })
	checkError(t, err)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return all, err == nil
}

// use asks everything of a store.
func use(t *testing.T, fs vfs.FS) {
	t.Helper()
	s, err := embedded.Open(small(fs))
	if err != nil {
		checkError(t, err)
		return
	}
	defer func() { _ = s.Close() }() // it may be broken by now
	ctx := t.Context()
	_, err = s.Ledger(ctx)
	checkError(t, err)
	checkError(t, s.Accepted(ctx, parley.BucketOf(fullNow()), func([]parley.Accepted) bool { return true }))
	for i := range 4 {
		useConversation(t, s, testConversation(i))
	}
	useConversation(t, s, person("phone:1"))
	useSender(t, s)
	_, err = s.DeadLetters(ctx, parley.DeadQuery{Limit: 10})
	checkError(t, err)
	_, err = s.Quarantined(ctx, "shop", parley.Channel{Kind: parley.Messenger, ID: "unknown"}, parley.ID{}, 10)
	checkError(t, err)
	_, err = s.Registered(ctx)
	checkError(t, err)
	checkError(t, s.Snapshots(ctx, parley.Conversation{}, 10, func(_ parley.Snapshot, err error) { checkError(t, err) }))
	_, _, err = s.FireTimers(ctx, func(uint16) bool { return true }, 10, time.Minute)
	checkError(t, err)
	_, err = s.Overdue(ctx, func(uint16) bool { return true }, -time.Minute, 10)
	checkError(t, err)
	checkError(t, s.Prune(ctx, time.Hour))
	_, err = s.Backlog(ctx)
	checkError(t, err)
}

// useConversation takes a turn of one, and looks at what it left.
func useConversation(t *testing.T, s *embedded.Store, c parley.Conversation) {
	t.Helper()
	ctx := t.Context()
	loaded, err := s.Load(ctx, c, 10)
	checkError(t, err)
	if err == nil && len(loaded.Pending) > 0 && loaded.Snapshot.MergedInto == "" {
		errs, err := s.Commit(ctx, []parley.Commit{benchTurn(&loaded.Pending[0], loaded.Snapshot, rand.New(rand.NewPCG(1, 2)))})
		for _, err := range append(errs, err) {
			checkError(t, err)
		}
	}
	_, err = s.Older(ctx, c, []parley.EventKey{parley.NewEventKey("evicted")})
	checkError(t, err)
	_, err = s.History(ctx, c, 0, 10)
	checkError(t, err)
	_, err = s.Unsent(ctx, c, 10)
	checkError(t, err)
	_, err = s.Append(ctx, parley.Arrivals{Events: []parley.Event{{Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey("new"), Input: parley.Reaction{}}}})
	checkError(t, err)
}

// useSender sends, folds and calls.
func useSender(t *testing.T, s *embedded.Store) {
	t.Helper()
	ctx := t.Context()
	l, err := s.Lease(ctx, testChannel(), "after", time.Hour, parley.Lease{})
	checkError(t, err)
	if err == nil {
		claimed, _, err := s.Claim(ctx, l, parley.Places{All: 10, Bulk: 10}, 0, time.Minute)
		checkError(t, err)
		outcomes := make([]parley.Outcome, 0, len(claimed))
		for i, kind := range []parley.OutcomeKind{parley.Sent, parley.Refused, parley.Returned, parley.Doubt} {
			if i < len(claimed) {
				outcomes = append(outcomes, parley.Outcome{ID: claimed[i].ID, Kind: kind, ProviderID: "m_2", Cause: "c"})
			}
		}
		checkError(t, s.Settle(ctx, l, outcomes))
		_, err = s.Fold(ctx, l, 10)
		checkError(t, err)
	}
	_, _, err = s.Delivery(ctx, testChannel(), "m_1")
	checkError(t, err)
	q := parley.CallQuery{Services: []parley.CallPlaces{{Service: "s", Limit: 5, Lease: time.Hour}}}
	calls, _, err := s.ClaimCalls(ctx, q, time.Hour)
	checkError(t, err)
	if len(calls) > 0 {
		in := calls[0].Answer(200, nil, 1)
		_, err = s.SettleCalls(ctx, []parley.CallOutcome{{Of: &calls[0], Answer: &in}})
		checkError(t, err)
	}
}

// checkError holds an error to what may be in a log.
func checkError(t *testing.T, err error) {
	t.Helper()
	if err != nil && (strings.Contains(err.Error(), fullSecret) || len(err.Error()) > 4000) {
		t.Errorf("an error with a message in it, or of %d bytes: %v", len(err.Error()), err)
	}
}

// FuzzFiles damages a file of the store: turns bytes over, or cuts it off. It opens, or
// says that it can't. What it shows then was there: the events that wait are some of
// those that were appended, and nothing else.
func FuzzFiles(f *testing.F) {
	full := fullStore(f)
	known := map[parley.EventKey]bool{}
	s := must[*embedded.Store](f)(embedded.Open(small(cloned(f, full))))
	for i := range 3 {
		loaded := must[parley.Loaded](f)(s.Load(context.Background(), testConversation(i), 100))
		for _, p := range loaded.Pending {
			known[p.Key] = true
		}
		for _, k := range loaded.Snapshot.Seen { // it waits again, if its turn is cut off
			known[k.Key] = true
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	names := must[[]string](f)(full.List(fullDir))
	slices.Sort(names)
	for i := range names {
		for _, at := range []uint32{0, 7, 40, 200, 1000} {
			f.Add(uint8(i), at, byte(0xff), false)
			f.Add(uint8(i), at, byte(0), true)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, flip byte, cut bool) {
		fs := cloned(t, full)
		rewrite(t, fs, path.Join(fullDir, names[int(which)%len(names)]), damage{int(at), flip, cut})
		s, err := openWithin(t, fs)
		if err != nil {
			checkError(t, err)
			return
		}
		defer func() { _ = s.Close() }() // it may be broken
		for i := range 3 {
			loaded, err := s.Load(t.Context(), testConversation(i), 100)
			checkError(t, err)
			for _, p := range loaded.Pending {
				if m, ok := p.Input.(parley.Message); !known[p.Key] || !ok || m.Text != fullSecret {
					t.Errorf("an event that was never appended: %v", p.Key)
				}
			}
		}
	})
}

// openWithin opens a store; that it ends neither is an error.
func openWithin(t *testing.T, fs vfs.FS) (s *embedded.Store, err error) {
	t.Helper()
	var mu sync.Mutex
	var fatal error
	cfg := small(fs)
	cfg.Fatal = func(err error) { mu.Lock(); fatal = cmp.Or(fatal, err); mu.Unlock() }
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, err = nil, errors.New("opening it never returned")
		s, err = embedded.Open(cfg)
	}()
	select {
	case <-done:
	case <-time.After(8 * time.Second): // Go has 10 s for a run
		t.Fatal("it neither opens nor fails")
	}
	mu.Lock()
	defer mu.Unlock()
	if s == nil && fatal == nil && err == nil {
		t.Fatal("no store, and no reason")
	}
	return s, err
}

// damage is a byte that was turned over, or where a file was cut off.
type damage struct {
	at   int
	flip byte
	cut  bool
}

// rewrite damages a file.
func rewrite(t *testing.T, fs vfs.FS, name string, d damage) {
	t.Helper()
	file := must[vfs.File](t)(fs.Open(name))
	b := must[[]byte](t)(io.ReadAll(file))
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		return
	}
	at := d.at % len(b)
	if b[at] ^= d.flip; d.cut {
		b = b[:at]
	}
	out := must[vfs.File](t)(fs.Create(name, vfs.WriteCategoryUnspecified))
	if _, err := out.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
