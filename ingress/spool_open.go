package ingress

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/parleychat/parley"
)

// open takes the folder and reads what is left in it.
//
// What is not whole at the end of the last segment was never acknowledged, and
// is ignored. Anything else that is not whole is damage. It is told, with the
// file and the place, and passed over: a node that doesn't start would lose more
// than the events that are lost already. What is whole is drained, and the
// damaged file stays, under another name.
func (l *spoolLog) open() (err error) {
	if l.lock, err = l.disk.Lock(l.dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.lock.Close())
		}
	}()
	if err := l.disk.SyncDir(filepath.Dir(l.dir)); err != nil {
		return fmt.Errorf("sync the folder's folder: %w", err)
	}
	names, err := l.disk.List(l.dir)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if err := l.weigh(names); err != nil {
		return err
	}
	return l.inspect(segmentNumbers(names))
}

// weigh adds up what was set aside, and finds the number to go on with.
func (l *spoolLog) weigh(names []string) error {
	for _, name := range names {
		for _, prefix := range []string{segmentPrefix, refusedPrefix, damagedPrefix} {
			number, ok := numberOf(prefix, name)
			if !ok {
				continue
			}
			l.next = max(l.next, number+1)
			if prefix == segmentPrefix {
				continue
			}
			size, err := l.sizeOf(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			l.bytes += size
		}
	}
	return nil
}

func (l *spoolLog) sizeOf(name string) (int64, error) {
	f, err := l.disk.Open(l.path(name))
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

func segmentNumbers(names []string) []uint64 {
	var numbers []uint64
	for _, name := range names {
		if n, ok := numberOf(segmentPrefix, name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

func numberOf(prefix, name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(strings.TrimSuffix(name, segmentSuffix), prefix)
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, ok && err == nil && name == fileName(prefix, n)
}

// inspect reads all segments. The last goes first: each says how far the one
// before it was good.
func (l *spoolLog) inspect(numbers []uint64) error {
	successors := map[uint64]segmentHeader{}
	for _, number := range slices.Backward(numbers) {
		p := &inspection{log: l, seg: &segment{number: number, end: headerBytes}, limit: unknownEnd}
		if h, ok := successors[number]; ok {
			p.limit = h.previousEnd
		}
		header, err := p.run(number == numbers[len(numbers)-1])
		if err != nil {
			return fmt.Errorf("%s: %w", fileName(segmentPrefix, number), err)
		}
		if header.previous != 0 {
			successors[header.previous] = header
		}
		l.bytes += p.seg.size
		if p.seg.left.records == 0 && !p.seg.damaged && p.limit == unknownEnd {
			l.garbage = append(l.garbage, p.seg) // its process ended before it had a record; nobody names it
			continue
		}
		l.segments = append([]*segment{p.seg}, l.segments...)
	}
	l.findMissing(numbers, successors)
	return nil
}

// findMissing tells of segments that another one names, and that are gone
// although older ones are there.
func (l *spoolLog) findMissing(numbers []uint64, successors map[uint64]segmentHeader) {
	for previous, h := range successors {
		if _, there := slices.BinarySearch(numbers, previous); !there && len(numbers) > 0 && previous > numbers[0] {
			l.tellDamage(previous, 0, h.previousEnd, errors.New("the file is missing"))
		}
	}
}

// unknownEnd is the limit of a segment that no other one follows.
const unknownEnd = -1

// inspection is the first reading of a segment.
type inspection struct {
	log   *spoolLog
	seg   *segment
	limit int64 // how far it was good, if known
}

func (p *inspection) run(last bool) (segmentHeader, error) {
	f, err := p.log.disk.Open(p.log.path(fileName(segmentPrefix, p.seg.number)))
	if err != nil {
		return segmentHeader{}, err
	}
	header, err := p.read(f, last)
	return header, errors.Join(err, f.Close())
}

func (p *inspection) read(f SpoolFile, last bool) (segmentHeader, error) {
	if last { // what a process wrote that was killed may not have been synced
		_ = f.Sync() // nor was it acknowledged then
	}
	size, err := f.Size()
	if err != nil {
		return segmentHeader{}, err
	}
	p.seg.size = size
	s := &scanner{r: f, at: headerBytes, end: size}
	if p.limit != unknownEnd {
		s.end = min(size, p.limit)
	}
	header, headerErr := readHeader(f)
	switch {
	case errors.Is(headerErr, parley.ErrFormat):
		return segmentHeader{}, fmt.Errorf("%w; use the newer version of Parley to drain it", headerErr)
	case headerErr != nil && !errors.Is(headerErr, errBroken):
		p.unreadable(s, headerErr)
		return segmentHeader{}, nil
	}
	if err := p.scan(s); err != nil {
		return segmentHeader{}, err
	}
	if headerErr != nil && (p.seg.left.records > 0 || p.limit != unknownEnd) {
		p.damage(0, headerBytes, headerErr)
	}
	if p.limit > size {
		p.damage(size, p.limit-size, errors.New("its end is missing"))
	}
	return header, nil
}

// unreadable leaves the rest of a segment to the drain, since the disk may yet
// show it. There may be anything in it.
func (p *inspection) unreadable(s *scanner, cause error) {
	p.log.logger.Error("spool can't be read; it is tried again",
		"file", p.log.path(fileName(segmentPrefix, p.seg.number)), "offset", s.at, "error", cause)
	p.seg.end, p.seg.vague = max(s.end, headerBytes), true
	p.seg.left.records++
	p.seg.left.quarantined++
}

// scan counts the records.
func (p *inspection) scan(s *scanner) error {
	for {
		body, err := s.next()
		switch {
		case errors.Is(err, io.EOF):
			p.seg.end = max(s.end, headerBytes)
			return nil
		case errors.Is(err, errBroken):
			if !p.broken(s) {
				return nil
			}
		case err != nil:
			p.unreadable(s, err)
			return nil
		default:
			if err := p.count(body); err != nil {
				return fmt.Errorf("record at %d: %w", s.at-frameBytes-int64(len(body)), err)
			}
		}
	}
}

func (p *inspection) count(body []byte) error {
	stamp, arrivals := splitBody(body)
	n, err := countArrivals(arrivals)
	if errors.Is(err, parley.ErrFormat) {
		return fmt.Errorf("%w; use the newer version of Parley to drain it", err)
	}
	if p.seg.left.records == 0 { // an error is for the drain, which puts the record aside
		p.seg.oldest = stamp
	}
	p.seg.left.records++
	p.seg.left.updates += n.updates()
	p.seg.left.quarantined += n.quarantined
	return nil
}

// broken deals with what is no record at the scanner's place, and reports
// whether there is one behind it.
func (p *inspection) broken(s *scanner) bool {
	from := s.at
	found, err := s.resync()
	switch {
	case err != nil:
		p.unreadable(s, err)
	case found:
		p.damage(from, s.at-from, errBroken)
	default:
		p.seg.end = max(from, headerBytes)
		if p.limit != unknownEnd {
			p.damage(from, s.end-from, errBroken)
		}
	}
	return found
}

func (p *inspection) damage(offset, size int64, cause error) {
	p.seg.damaged = true
	p.log.tellDamage(p.seg.number, offset, size, cause)
}
