package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/parleychat/parley"
)

// The names in a spool's folder, with a number in hexadecimal in the middle.
// Numbers grow, and are shared by all three, so that any of them can be renamed
// to be drained (again).
const (
	lockName      = "LOCK"
	segmentPrefix = "spool-"
	refusedPrefix = "refused-" // records that the inbox does not take
	damagedPrefix = "damaged-" // a segment, drained but for what is not readable in it
	segmentSuffix = ".log"
)

var errSpoolClosed = errors.New("spool is closed")

// spoolLog is the folder of a spool: records are added at its end and read from
// its beginning, and a segment is removed when all of it has been drained.
//
// A record counts once its fsync has returned. A file in which a write or an
// fsync failed is never written again, since what the disk has of it can't be
// known: it is cut back to its last good record, as far as that works, and the
// next record begins a new segment, whose header says how far the one before is
// good.
//
// append may be called by many at once; all that reads and removes belongs to
// one goroutine, that of [Spool.Run].
type spoolLog struct {
	disk    SpoolDisk
	dir     string
	logger  *slog.Logger
	metrics *spoolMetrics
	lock    io.Closer

	limit        int64 // of all files together
	segmentBytes int64

	// writing holds a token while a record is written and synced: a lock for
	// which nobody has to wait longer than they want.
	writing chan struct{}
	file    *segmentFile // the last segment, while it can take more; guarded by writing
	room    spoolRoom    // guarded by writing
	closed  bool         // guarded by writing

	mu       sync.Mutex // held for moments, never over the disk
	segments []*segment // oldest first
	garbage  []*segment // drained and not yet removed, oldest first
	next     uint64     // number of the next file
	bytes    int64      // of all files

	reader      segmentReader
	aside       *segmentFile // where refused records go, while it can take more
	asideNumber uint64       // its number, or that of the next; 0: none yet
}

// segment is what is known of a segment.
type segment struct {
	number  uint64
	end     int64 // its records end here, durable
	size    int64 // of its file
	oldest  int64 // stamp in ms: nothing that is left is older
	left    left  // not yet drained
	damaged bool  // a part of it could not be read: its file is kept
	vague   bool  // it was not seen how far its records go; end is the file's
}

// left is what waits in a segment.
type left struct{ records, updates, quarantined int }

// position is a place in the log.
type position struct {
	segment uint64
	offset  int64
}

func (l *spoolLog) path(name string) string { return filepath.Join(l.dir, name) }

func fileName(prefix string, number uint64) string {
	return fmt.Sprintf("%s%016x%s", prefix, number, segmentSuffix)
}

// append makes a record durable. ErrFull: there is no room for it. If ctx ends
// it gives up waiting for others to be written, but not the writing itself.
func (l *spoolLog) append(ctx context.Context, record []byte, stamp int64, n census) error {
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer l.unlock()
	if err := l.admit(int64(len(record))); err != nil {
		return err
	}
	if err := l.ensure(int64(len(record))); err != nil {
		return noRoom(fmt.Errorf("begin a segment: %w", err))
	}
	if err := l.file.write(record); err != nil {
		l.abandon(int64(len(record)))
		return noRoom(fmt.Errorf("write a record: %w", err))
	}
	l.grown(int64(len(record)), stamp, n)
	return nil
}

func (l *spoolLog) unlock() { <-l.writing }

// noRoom adds ErrFull to what a full disk says.
func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", parley.ErrFull, err)
	}
	return err
}

func (l *spoolLog) admit(size int64) error {
	if l.closed {
		return errSpoolClosed
	}
	l.mu.Lock()
	held := l.bytes
	l.mu.Unlock()
	if held+headerBytes+size > l.limit {
		return fmt.Errorf("spool holds %d of %d bytes (MaxBytes): %w", held, l.limit, parley.ErrFull)
	}
	return l.room.check(size)
}

// ensure sees to it that there is a segment that can take a record of that size.
func (l *spoolLog) ensure(size int64) error {
	l.mu.Lock()
	var last *segment
	if n := len(l.segments); n > 0 {
		last = l.segments[n-1]
	}
	fits := last != nil && !last.damaged && (last.end == headerBytes || last.end+size <= l.segmentBytes)
	header, number := segmentHeader{}, l.next
	if last != nil && !last.vague {
		header = segmentHeader{previous: last.number, previousEnd: last.end}
	}
	l.mu.Unlock()
	if l.file != nil && fits {
		return nil
	}
	if l.file != nil {
		_ = l.file.file.Close() // all of it has been synced
		l.file = nil
	}
	file, err := createSegment(l.disk, l.dir, fileName(segmentPrefix, number), header)
	if err != nil {
		return err
	}
	l.file = file
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = max(l.next, number+1)
	l.bytes += headerBytes
	l.segments = append(l.segments, &segment{number: number, end: headerBytes, size: headerBytes})
	return nil
}

func (l *spoolLog) grown(size, stamp int64, n census) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[len(l.segments)-1]
	if s.left.records == 0 {
		s.oldest = stamp
	}
	s.end, s.size = s.end+size, s.end+size
	s.left.records++
	s.left.updates += n.updates()
	s.left.quarantined += n.quarantined
	l.bytes += size
}

// abandon gives the last segment up after a failed write of so many bytes. One
// that has no record yet leaves nothing behind.
func (l *spoolLog) abandon(size int64) {
	cut, empty := l.file.abandon(), l.file.end == headerBytes
	if empty {
		_ = l.disk.Remove(l.path(l.file.name)) // if it stays, the next of its number begins with that
	}
	l.file = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.segments[len(l.segments)-1]
	switch {
	case empty:
		l.bytes -= last.size
		l.segments = l.segments[:len(l.segments)-1]
		if l.next == last.number+1 {
			l.next = last.number
		}
	case !cut:
		last.size += size // as much as may be there
		l.bytes += size
	}
}

// read shows the records from at on to visit, until visit has enough, or the
// segment ends. It returns the place behind the last record that was taken.
func (l *spoolLog) read(at position, visit func(body []byte) (taken, more bool)) (position, error) {
	at, end, ok := l.locate(at)
	if !ok {
		return at, nil
	}
	f, err := l.reader.open(l.disk, l.path(fileName(segmentPrefix, at.segment)), at.segment)
	if err != nil {
		return at, fmt.Errorf("open segment: %w", err)
	}
	s := scanner{r: f, at: at.offset, end: end, body: l.reader.body}
	defer func() { l.reader.body = s.body }()
	for more := true; more; {
		body, err := s.next()
		switch {
		case errors.Is(err, io.EOF):
			return at, nil
		case errors.Is(err, errBroken):
			if err := l.skip(at, &s); err != nil {
				return at, err
			}
		case err != nil:
			return at, fmt.Errorf("read segment: %w", err)
		default:
			var taken bool
			if taken, more = visit(body); !taken {
				return at, nil
			}
		}
		at.offset = s.at
	}
	return at, nil
}

// locate finds the first place from at on where there is a record, and the end
// of its segment.
func (l *spoolLog) locate(at position) (position, int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		from := position{s.number, headerBytes}
		if s.number == at.segment {
			from = at
		}
		if s.number >= at.segment && from.offset < s.end {
			return from, s.end, true
		}
	}
	return at, 0, false
}

// more reports whether there is a record from at on.
func (l *spoolLog) more(at position) bool {
	_, _, more := l.locate(at)
	return more
}

// skip moves a scanner behind what is broken.
func (l *spoolLog) skip(at position, s *scanner) error {
	from := s.at
	found, err := s.resync()
	if err != nil {
		return err
	}
	if !found {
		s.at = s.end
	}
	if _, fresh := l.markDamaged(at.segment, !found); fresh { // what was found at the start has been told
		l.tellDamage(at.segment, from, s.at-from, errBroken)
	}
	return nil
}

// markDamaged returns the segment's end, and whether the damage is news. If it
// is at the end it is none where the end is vague.
func (l *spoolLog) markDamaged(number uint64, atEnd bool) (end int64, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		if s.number == number && (!atEnd || !s.vague) {
			end, fresh = s.end, !s.damaged
			s.damaged = true
		}
	}
	return end, fresh
}

// giveUp skips the rest of the segment of at, which can't be read.
func (l *spoolLog) giveUp(at position, cause error) position {
	at, _, _ = l.locate(at)
	end, _ := l.markDamaged(at.segment, false)
	l.tellDamage(at.segment, at.offset, end-at.offset, cause)
	return position{at.segment, end}
}

func (l *spoolLog) tellDamage(number uint64, offset, size int64, cause error) {
	l.metrics.damaged.Inc()
	l.logger.Error("spool is damaged: acknowledged events may be lost; the rest is drained, and the file kept for you to look at and then remove",
		"file", l.path(fileName(segmentPrefix, number)), "offset", offset, "bytes", size,
		"will_be", fileName(damagedPrefix, number), "error", cause)
}

// drained notes that all before at is durable in the inbox; n of it is news,
// the last of it written at stamp.
func (l *spoolLog) drained(at position, n left, stamp int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.segments) > 0 && l.segments[0].number < at.segment {
		l.garbage = append(l.garbage, l.segments[0])
		l.segments = l.segments[1:]
	}
	for _, s := range l.segments {
		if s.number == at.segment {
			s.left.records = max(s.left.records-n.records, 0)
			s.left.updates = max(s.left.updates-n.updates, 0)
			s.left.quarantined = max(s.left.quarantined-n.quarantined, 0)
			s.oldest = stamp
		}
	}
}

// retire ends all segments, if there is no record from at on. Nobody may be
// writing.
func (l *spoolLog) retire(at position) bool {
	if l.more(at) {
		return false
	}
	l.writing <- struct{}{}
	defer l.unlock()
	if l.file != nil {
		_ = l.file.file.Close() // all of it has been synced, and drained
		l.file = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.garbage = append(l.garbage, l.segments...)
	l.segments = nil
	return true
}

// sweep removes what has been drained. What can't be removed is tried again the
// next time; drained again after a restart, it would do no harm.
func (l *spoolLog) sweep() error {
	for {
		s := l.oldestGarbage()
		if s == nil {
			return nil
		}
		l.reader.leave(s.number)
		if err := l.remove(s); err != nil {
			return fmt.Errorf("remove drained segment: %w", err)
		}
		l.swept(s)
	}
}

// remove takes a segment out of the log, durably. A damaged one is kept.
func (l *spoolLog) remove(s *segment) (err error) {
	name := l.path(fileName(segmentPrefix, s.number))
	if s.damaged {
		err = l.disk.Rename(name, l.path(fileName(damagedPrefix, s.number)))
	} else {
		err = l.disk.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.disk.SyncDir(l.dir)
}

func (l *spoolLog) oldestGarbage() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.garbage) == 0 {
		return nil
	}
	return l.garbage[0]
}

func (l *spoolLog) swept(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.garbage = l.garbage[1:]
	if !s.damaged {
		l.bytes -= s.size
	}
}

// setAside makes a record durable in a file of its own sort, and returns the
// file's name. It may pass the limit: what it takes, the log will give.
func (l *spoolLog) setAside(record []byte) (string, error) {
	if l.aside != nil && l.aside.end+int64(len(record)) > l.segmentBytes {
		_ = l.aside.file.Close() // all of it has been synced
		l.aside, l.asideNumber = nil, 0
	}
	if l.aside == nil {
		if err := l.beginAside(); err != nil {
			return "", fmt.Errorf("begin a file: %w", err)
		}
	}
	if err := l.aside.write(record); err != nil {
		l.abandonAside()
		return "", fmt.Errorf("write a record: %w", err)
	}
	l.add(int64(len(record)))
	return l.path(l.aside.name), nil
}

func (l *spoolLog) beginAside() error {
	if l.asideNumber == 0 {
		l.mu.Lock()
		l.asideNumber = l.next
		l.next++
		l.mu.Unlock()
	}
	file, err := createSegment(l.disk, l.dir, fileName(refusedPrefix, l.asideNumber), segmentHeader{})
	if err == nil {
		l.aside = file
		l.add(headerBytes)
	}
	return err
}

// abandonAside gives the file up after a failed write. One that has no record
// yet leaves nothing behind, and its number to the next.
func (l *spoolLog) abandonAside() {
	l.aside.abandon()
	if l.aside.end == headerBytes {
		_ = l.disk.Remove(l.path(l.aside.name)) // if it stays, the next of its number begins with that
		l.add(-headerBytes)
	} else {
		l.asideNumber = 0
	}
	l.aside = nil
}

func (l *spoolLog) add(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += bytes
}

// waiting is what is in the log and not yet drained.
func (l *spoolLog) waiting() (n left, bytes, oldest int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		if n.records == 0 && s.left.records > 0 {
			oldest = s.oldest
		}
		n.records += s.left.records
		n.updates += s.left.updates
		n.quarantined += s.left.quarantined
	}
	return n, l.bytes, oldest
}

// close closes the files and lets go of the folder.
func (l *spoolLog) close() error {
	l.writing <- struct{}{}
	defer l.unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for _, f := range []*segmentFile{l.file, l.aside} {
		if f != nil {
			_ = f.file.Close() // all of it has been synced
		}
	}
	l.file, l.aside = nil, nil
	l.reader.leave(l.reader.number)
	return l.lock.Close()
}

// segmentFile is a segment being written.
type segmentFile struct {
	file SpoolFile
	name string
	end  int64
}

// createSegment makes a segment without records, durable, in its folder. A file
// of that name can only be what an earlier attempt could not remove.
func createSegment(disk SpoolDisk, dir, name string, header segmentHeader) (*segmentFile, error) {
	full := filepath.Join(dir, name)
	_ = disk.Remove(full) // if it stays, Create says so
	f, err := disk.Create(full)
	if err != nil {
		return nil, err
	}
	s := &segmentFile{file: f, name: name}
	if err = s.write(header.encode()); err == nil {
		err = disk.SyncDir(dir)
	}
	if err != nil {
		_ = f.Close()
		_ = disk.Remove(full) // as far as that works: the next attempt begins with it
		return nil, err
	}
	return s, nil
}

func (s *segmentFile) write(b []byte) error {
	if _, err := s.file.WriteAt(b, s.end); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	s.end += int64(len(b))
	return nil
}

// abandon closes the file after a failed write, and cuts it back if it can.
func (s *segmentFile) abandon() (cut bool) {
	err := s.file.Truncate(s.end)
	return errors.Join(err, s.file.Close()) == nil
}

// segmentReader keeps the file that is read open.
type segmentReader struct {
	file   SpoolFile
	number uint64
	body   []byte // scratch
}

func (r *segmentReader) open(disk SpoolDisk, name string, number uint64) (SpoolFile, error) { //nolint:ireturn // it is whatever the disk gave
	if r.file != nil && r.number == number {
		return r.file, nil
	}
	r.leave(r.number)
	f, err := disk.Open(name)
	if err == nil {
		r.file, r.number = f, number
	}
	return f, err
}

func (r *segmentReader) leave(number uint64) {
	if r.file != nil && r.number == number {
		_ = r.file.Close() // it was only read
		r.file = nil
	}
}

const (
	roomEvery      = 100     // ms: free space is asked for this often,
	roomEveryBytes = 4 << 20 // or after so many bytes
)

// spoolRoom watches the free space of the disk.
type spoolRoom struct {
	free    func() (uint64, error)
	now     func() int64
	reserve uint64

	asked int64 // ms
	since int64 // bytes admitted since
	known uint64
}

// check answers an error that wraps ErrFull if less than the reserve would be
// left. After a refusal it asks anew each time.
func (r *spoolRoom) check(size int64) error {
	now := r.now()
	r.since += size
	fresh := r.asked != 0 && now >= r.asked && now < r.asked+roomEvery && r.since < roomEveryBytes
	if !fresh || r.known < r.reserve+uint64(r.since) {
		known, err := r.free()
		if err != nil {
			r.asked = 0
			return fmt.Errorf("ask for free space: %w", err)
		}
		r.asked, r.since, r.known = cmp.Or(now, 1), size, known
	}
	if r.known < r.reserve+uint64(r.since) {
		return fmt.Errorf("%d MiB free, %d MiB are kept: %w", r.known>>20, r.reserve>>20, parley.ErrFull)
	}
	return nil
}
