package embedded

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
)

// dirFormat is the version of what a directory holds. It is raised when an
// older program could not work with it; such a program then refuses.
const dirFormat = 1

const (
	lockFile     = "LOCK"   // Pebble's
	formatFile   = "PARLEY" // says that the directory is one of ours, and of which format
	formatPrefix = "parley embedded store, format "
)

// Open opens the store in cfg.Dir, or makes a new one there. Its errors wrap
// parley.ErrLocked if another process has it open, and parley.ErrFormat if a
// newer version of Parley wrote it; a directory that holds something else is
// refused as it is. The caller closes the store.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, opened: cfg.Now(), channels: map[parley.Channel]*channel{}, nextDue: never, next: 1, limit: 1,
		versions: newCache[parley.Conversation, parley.Version](versionCacheSize),
		aliases:  newCache[parley.Conversation, parley.Contact](aliasCacheSize),
		calling:  newCalls(),
		books:    books{posted: map[parley.PostingKey]*parley.Posting{}},
		room:     room{free: cfg.Free, reserve: cfg.ReserveBytes},
	}
	s.metrics = newMetrics(cfg.Registerer, s)
	if err := s.open(); err != nil {
		s.metrics.unregister()
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Store) open() (err error) {
	fs := s.cfg.FS
	if s.cfg.Existing {
		if marked, err := readFormat(fs, s.cfg.Dir); err != nil || !marked {
			return errors.Join(fmt.Errorf("it has no file %s that this program knows, so there is no store", formatFile), err)
		}
	}
	if err := fs.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = pebble.LockDirectory(s.cfg.Dir, fs); err != nil {
		return fmt.Errorf("%w: stop the process that uses it, or name another directory (%w)", parley.ErrLocked, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if err := claimDir(fs, s.cfg.Dir); err != nil {
		return err
	}
	if s.db, err = pebble.Open(s.cfg.Dir, s.cfg.pebble(s.lock, s)); err != nil {
		return err
	}
	if err := s.rebuild(); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// claimDir checks that the directory is one of ours and of a format that this
// program knows, and makes it one if it is empty.
func claimDir(fs vfs.FS, dir string) error {
	marked, err := readFormat(fs, dir)
	if err != nil || marked {
		return err
	}
	return markDir(fs, dir)
}

// readFormat says whether a directory is marked as one of ours; one of a format
// that this program doesn't know is an error.
func readFormat(fs vfs.FS, dir string) (marked bool, err error) {
	f, err := fs.Open(fs.PathJoin(dir, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err := errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatPrefix)
	format, err := strconv.Atoi(number)
	switch {
	case !ok || err != nil:
		return false, fmt.Errorf("its file %s is not one that Parley wrote", formatFile)
	case format > dirFormat:
		return false, fmt.Errorf("the directory has format %d, this program knows up to %d; use the newer version of Parley: %w",
			format, dirFormat, parley.ErrFormat)
	case format != dirFormat:
		return false, fmt.Errorf("the directory has format %d, which was never used", format)
	}
	return true, nil
}

const formatTemporary = formatFile + ".tmp"

// nothing is what may be in a directory that holds nothing.
func nothing() []string { return []string{lockFile, formatTemporary, "lost+found"} }

// markDir makes an empty directory one of ours.
func markDir(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(nothing(), name) {
			return fmt.Errorf("it holds %q and no file %s, so it isn't a store of Parley; name an empty directory", name, formatFile)
		}
	}
	return writeFormat(fs, dir)
}

// writeFormat writes the format file, so that it is there whole or not at all.
func writeFormat(fs vfs.FS, dir string) error {
	f, err := fs.Create(fs.PathJoin(dir, formatTemporary), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d\n", formatPrefix, dirFormat)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(fs.PathJoin(dir, formatTemporary), fs.PathJoin(dir, formatFile)); err != nil {
		return err
	}
	return errors.Join(syncDir(fs, dir), syncDir(fs, fs.PathDir(dir)))
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// pebble is how Pebble is set up: few and large tables in memory, since most
// rows live for milliseconds and should never reach a file; files at level 0 are
// left to gather, since little is looked up in them (together about a tenth of a
// turn's CPU); filters, since most of what is looked up isn't there.
func (c *Config) pebble(lock *pebble.Lock, s *Store) *pebble.Options {
	o := &pebble.Options{
		FS: c.FS, Lock: lock, Logger: pebbleLogger{log: c.Logger, store: s},
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		// Pebble takes its tables in memory out of the cache's size: without this
		// addition nothing would be left for blocks.
		CacheSize:                   c.CacheBytes + memTables*int64(c.MemTableBytes),
		MemTableSize:                c.MemTableBytes,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       24,
		MaxOpenFiles:                500,
		WALMinSyncInterval:          func() time.Duration { return c.SyncEvery },
		BytesPerSync:                1 << 20,
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = pebble.TableFilter
		o.Levels[i].BlockSize = 16 << 10
	}
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	return o
}

// pebbleLogger passes Pebble's words on. It says Fatalf when it can't go on
// (the manifest or the log could not be written) and expects not to return.
type pebbleLogger struct {
	log   *slog.Logger
	store *Store
}

// Infof is news of flushes and compactions.
func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "news", fmt.Sprintf(format, args...))
}

// Errorf is an error in the background that Pebble tries again.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "error", fmt.Sprintf(format, args...))
}

// Fatalf dooms the store. It is called with or without the store's mutex held,
// so it must not take it.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	_ = l.store.doom(fmt.Errorf("pebble: "+format, args...))
	runtime.Goexit()
}

// rebuild fills the indexes from the tables.
func (s *Store) rebuild() error {
	for _, table := range []struct {
		prefix byte
		row    func(key *reader, value []byte) error
	}{
		{tableMeta, s.seeMeta},
		{tablePosting, s.seePosting},
		{tableBooks, s.seeBooks},
		{tableInbox, s.seePending},
		{tableOutbox, s.seeUnsent},
		{tableMark, s.seeMark},
		{tableSilence, s.seeSilence},
		{tableLease, s.seeLease},
		{tableReceipt, s.seeReceipt},
		{tableTimer, s.seeTimer},
		{tableQuarIndex, func(*reader, []byte) error { s.counts.quarantined++; return nil }},
		{tableCall, s.seeCall},
		{tableCallMark, s.seeCallMark},
		{tableDead, func(*reader, []byte) error { s.counts.dead++; return nil }},
	} {
		err := scanOf(s.db, []byte{table.prefix}, after([]byte{table.prefix}), func(key, value []byte) (bool, error) {
			r, err := readKey(table.prefix, key)
			if err == nil {
				err = table.row(r, value)
			}
			return true, errors.Join(err, r.err)
		})
		if err != nil {
			return fmt.Errorf("read table %c: %w", table.prefix, err)
		}
	}
	s.balance()
	s.order()
	if err := s.holdBehindMerged(); err != nil {
		return fmt.Errorf("read table %c: %w", tableAlias, err)
	}
	s.early = newEarly(s.now())
	return nil
}

func (s *Store) seeMeta(key *reader, value []byte) error {
	v := reader{b: value}
	switch name := string(key.b); name {
	case metaReserved:
		s.limit = v.uint64()
		s.next = s.limit
	case metaClock:
		s.notedMS = int64(v.uint64())
		s.clock.seen(s.notedMS)
	default:
		return fmt.Errorf("name %q: %w", name, parley.ErrFormat)
	}
	return v.end("meta row")
}

func (s *Store) seePending(key *reader, value []byte) error {
	c := key.conversation()
	row, err := decodeHead(value)
	if err != nil {
		return err
	}
	row.seq = parley.Seq(key.uint64())
	s.clock.seen(row.received)
	t := txn{Store: s}
	at, err := t.final(c)
	if err != nil {
		return err
	}
	line := s.channel(c.Channel).line(at.Contact)
	if at != c {
		line.stray(row.seq, c.Contact)
	}
	s.arrived.add(line, row)
	return nil
}

// holdBehindMerged lets the messages of what was merged go first.
func (s *Store) holdBehindMerged() error {
	t := txn{Store: s}
	for _, ch := range s.channels {
		for contact := range ch.lines {
			steps, err := t.merged(parley.Conversation{Channel: ch.name, Contact: contact})
			if err != nil {
				return err
			}
			for _, behind := range steps {
				ch.hold(contact, behind)
			}
		}
	}
	return nil
}

func (s *Store) seeUnsent(key *reader, value []byte) error {
	c := key.conversation()
	u := unsent{ordinal: key.uint64(), id: key.id(), bulk: len(value) > 0 && value[0] == bulkFormat}
	s.channel(c.Channel).insert(c.Contact, u)
	s.counts.unsent++
	return nil
}

// seeMark gives a head its mark. Whatever was claimed when the store was last
// open is orphaned: its claimer is dead.
func (s *Store) seeMark(key *reader, value []byte) error {
	c := key.conversation()
	m, err := decodeMark(value)
	if err != nil {
		return err
	}
	s.clock.seen(m.at)
	ch := s.channel(c.Channel)
	l := ch.lines[c.Contact]
	if l == nil || l.queue[0].id != m.id {
		return errors.New("a mark without its message")
	}
	l.mark = m
	ch.attempted[m.id] = l
	if m.epoch != 0 {
		ch.turn(l, lineOrphan)
	} else {
		ch.turn(l, lineWaiting)
	}
	return nil
}

func (s *Store) seeLease(key *reader, value []byte) error {
	name := key.channel()
	r, err := readRow(tableLease, value)
	if err != nil {
		return err
	}
	s.channel(name).lease.epoch = r.uvarint()
	return r.end("lease")
}

func (s *Store) seeReceipt(key *reader, _ []byte) error {
	ch := s.channel(key.channel())
	if n := key.uint64(); ch.receipts == 0 {
		ch.firstReceipt = n
	}
	ch.receipts++
	s.counts.receipts++
	return nil
}

func (s *Store) seeTimer(key *reader, _ []byte) error {
	s.nextDue = min(s.nextDue, int64(key.uint64()))
	key.id()
	s.counts.timers++
	return nil
}

// order brings what the scans met by conversation into the order of time.
func (s *Store) order() {
	slices.SortFunc(s.arrived.queue, func(a, b arrival) int {
		if a.row.seq < b.row.seq {
			return -1
		}
		return 1
	})
	for _, ch := range s.channels {
		for _, l := range ch.inbox {
			if l.merged != nil {
				l.sort()
			}
		}
		for _, ready := range ch.ready {
			slices.SortFunc(ready, func(a, b entry) int {
				x, y := a.line.queue[0].id, b.line.queue[0].id
				return slices.Compare(x[:], y[:])
			})
		}
		heap.Init(&ch.waiting)
		heap.Init(&ch.orphans)
	}
}
