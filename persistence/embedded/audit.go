package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleychat/parley"
)

// books is what has been counted. Each group of writes stores the sums that it has
// changed with what it is about, so a count is durable if and only if that is.
//
// A program that doesn't count may have worked with the store in between. It can't
// know of the books, but it notes the clock and the numbers in tableMeta; the books
// hold a copy of these, written by whoever counts. If they differ, somebody didn't.
type books struct {
	opened int64 // ms; 0: not open
	turn   int64
	posted map[parley.PostingKey]*parley.Posting
	dirty  []parley.PostingKey // to be written with the group under construction
	noted  bool                // the copy is to be written with it, too
	stored bookmark            // as it was found
}

// bookmark is a copy of what is in tableMeta.
type bookmark struct {
	found           bool
	reserved, clock uint64
}

// post counts. Like all writes it can't fail.
func (t *txn) post(all ...parley.Posting) {
	b := &t.books
	for i := range all {
		p := &all[i]
		sum := b.posted[p.Of()]
		if sum == nil {
			sum = &parley.Posting{Brand: parley.Brand([]byte(p.Brand)), Sort: p.Sort, Bucket: p.Bucket} // a copy: it may be part of a webhook's body
			b.posted[sum.Of()] = sum
		}
		sum.Add(p)
		if !slices.Contains(b.dirty, sum.Of()) {
			b.dirty = append(b.dirty, sum.Of())
		}
	}
}

// accept counts what has been appended, and lists its events beside the inbox.
func (t *txn) accept(a *parley.Arrivals, rows []parley.Pending) {
	bucket := parley.BucketOf(fromMS(t.now))
	t.post(parley.PostArrivals(a, bucket)...)
	if len(rows) == 0 {
		return
	}
	t.val = append(t.val[:0], rowFormat)
	for i := range rows {
		p := &rows[i]
		t.val = append(appendConversation(t.val, p.Conversation), p.Key[:]...)
		t.val = binary.BigEndian.AppendUint64(t.val, uint64(p.Token))
	}
	t.key = acceptedKey(t.key[:0], bucket)
	t.key = binary.BigEndian.AppendUint64(t.key, uint64(rows[0].Seq))
	t.set(t.key, t.val)
}

func acceptedKey(b []byte, bucket int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, tableAccepted), uint64(bucket))
}

func postingKey(b []byte, k parley.PostingKey) []byte {
	b = append(appendName(append(b, tablePosting), k.Brand), byte(k.Sort))
	return binary.BigEndian.AppendUint64(b, uint64(k.Bucket))
}

func appendPosting(b []byte, p *parley.Posting) []byte {
	b = append(b, rowFormat)
	for _, n := range []int64{p.Acknowledged, p.Effected, p.Duplicate, p.Dead, p.Dropped} {
		b = binary.AppendVarint(b, n)
	}
	return b
}

// writeBooks adds to the group what it has counted.
func (t *txn) writeBooks() {
	b := &t.books
	for _, k := range b.dirty {
		t.key = postingKey(t.key[:0], k)
		if p := b.posted[k]; p != nil {
			t.val = appendPosting(t.val[:0], p)
			t.set(t.key, t.val)
		} else {
			t.del(t.key)
		}
	}
	b.dirty = b.dirty[:0]
	if b.noted {
		b.noted = false
		t.val = binary.AppendVarint(append(t.val[:0], rowFormat), b.opened)
		t.val = binary.AppendVarint(t.val, b.turn)
		t.val = binary.BigEndian.AppendUint64(t.val, t.limit)
		t.val = binary.BigEndian.AppendUint64(t.val, uint64(t.notedMS))
		t.set([]byte{tableBooks}, t.val)
	}
}

func (s *Store) seePosting(key *reader, value []byte) error {
	p, err := readPosting(key, value)
	if err == nil {
		s.books.posted[p.Of()] = &p
	}
	return err
}

func readPosting(key *reader, value []byte) (parley.Posting, error) {
	p := parley.Posting{Brand: parley.Brand(key.string()), Sort: parley.AuditSort(key.fixed(1)[0]), Bucket: int64(key.uint64())}
	r, err := readRow(tablePosting, value)
	if err != nil {
		return p, err
	}
	p.Acknowledged, p.Effected, p.Duplicate = r.varint(), r.varint(), r.varint()
	p.Dead, p.Dropped = r.varint(), r.varint()
	return p, r.end("counts")
}

func (s *Store) seeBooks(_ *reader, value []byte) error {
	r, err := readRow(tableBooks, value)
	if err != nil {
		return err
	}
	b := &s.books
	b.opened, b.turn = r.varint(), r.varint()
	b.stored = bookmark{found: true, reserved: r.uint64(), clock: r.uint64()}
	return r.end("books")
}

// balance opens the books of a new store, and closes those of one that somebody has
// written into without counting.
func (s *Store) balance() {
	b := &s.books
	switch was := b.stored; {
	case !was.found && s.notedMS == 0: // nothing was ever written
		b.opened = s.now()
	case !was.found, was.reserved != s.limit, was.clock != uint64(s.notedMS):
		b.opened = 0
		b.turn++
	}
}

// Ledger reads all counts and all that is there, of a snapshot: see audit.Store.
func (s *Store) Ledger(ctx context.Context) (parley.Ledger, error) {
	if err := s.enter(ctx); err != nil {
		return parley.Ledger{}, err
	}
	defer s.leave()
	s.mu.Lock()
	g := parley.Ledger{At: fromMS(s.now()), Opened: fromMS(s.books.opened), Turn: s.books.turn}
	at := s.db.NewSnapshot()
	s.mu.Unlock()
	r := ledgerReader{lines: map[parley.PostingKey]*parley.AuditLine{}}
	err := errors.Join(r.read(ctx, at), at.Close())
	if err != nil {
		return parley.Ledger{}, fmt.Errorf("read ledger: %w", err)
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.lines), parley.PostingKey.Compare) {
		g.Lines = append(g.Lines, *r.lines[k])
	}
	return g, nil
}

// ledgerReader adds up what it reads.
type ledgerReader struct {
	lines map[parley.PostingKey]*parley.AuditLine
}

func (l *ledgerReader) line(brand parley.Brand, sort parley.AuditSort, bucket int64) *parley.AuditLine {
	k := parley.PostingKey{Brand: brand, Sort: sort, Bucket: bucket}
	if l.lines[k] == nil {
		l.lines[k] = &parley.AuditLine{Posting: parley.Posting{Brand: brand, Sort: sort, Bucket: bucket}}
	}
	return l.lines[k]
}

func (l *ledgerReader) read(ctx context.Context, from pebble.Reader) error {
	for _, table := range []struct {
		letter byte
		row    func(key *reader, value []byte) error
	}{
		{tablePosting, l.posting},
		{tableInbox, l.pending},
		{tableReceipt, l.receipt},
		{tableQuarantine, l.body},
		{tableDead, l.letter},
	} {
		err := scanOf(from, []byte{table.letter}, after([]byte{table.letter}), func(key, value []byte) (bool, error) {
			r, err := readKey(table.letter, key)
			if err == nil {
				err = table.row(r, value)
			}
			return true, errors.Join(err, r.err, ctx.Err())
		})
		if err != nil {
			return fmt.Errorf("table %c: %w", table.letter, err)
		}
	}
	return nil
}

func (l *ledgerReader) posting(key *reader, value []byte) error {
	p, err := readPosting(key, value)
	l.line(p.Brand, p.Sort, p.Bucket).Add(&p)
	return err
}

func (l *ledgerReader) pending(key *reader, value []byte) error {
	r, err := readRow(tableInbox, value)
	if err != nil {
		return err
	}
	r.uint64() // its token
	received := r.time()
	r.fixed(16) // its key
	r.time()
	if data := r.raw(); !parley.OfOwn(data) {
		l.line(key.channel().Brand, parley.AuditEvents, parley.BucketOf(received)).Pending++
	}
	return r.end("inbox row")
}

func (l *ledgerReader) receipt(key *reader, _ []byte) error {
	l.line(key.channel().Brand, parley.AuditReceipts, parley.BucketBefore).Pending++
	return nil
}

func (l *ledgerReader) body(_ *reader, value []byte) error {
	r, err := readRow(tableQuarantine, value)
	if err == nil {
		l.line("", parley.AuditBodies, parley.BucketOf(r.time())).Quarantined++
		err = r.err
	}
	return err
}

func (l *ledgerReader) letter(_ *reader, value []byte) error {
	var d parley.DeadLetter
	err := decodeDead(&d, value)
	if err == nil && d.Counted() {
		l.line(d.Conversation.Channel.Brand, parley.AuditEvents, parley.BucketBefore).Letters++
	}
	return err
}

// OpenBooks makes a ledger add up: see audit.Store.
func (s *Store) OpenBooks(ctx context.Context, as parley.Ledger) error {
	err := s.write(ctx, makesSpace, func(t *txn) error {
		if t.books.turn != as.Turn {
			return parley.ErrConflict
		}
		t.post(as.Opening()...)
		t.turnBooks(t.now)
		return nil
	})
	if err != nil {
		return fmt.Errorf("open books: %w", err)
	}
	return nil
}

// CloseBooks says that somebody doesn't count: see audit.Store.
func (s *Store) CloseBooks(ctx context.Context) error {
	err := s.write(ctx, makesSpace, func(t *txn) error {
		t.turnBooks(0)
		return nil
	})
	if err != nil {
		return fmt.Errorf("close books: %w", err)
	}
	return nil
}

// turnBooks writes the books with the clock and the numbers that they are held to.
func (t *txn) turnBooks(opened int64) {
	t.books.opened, t.books.noted = opened, true
	t.books.turn++
	if t.notedMS == 0 {
		t.noteClock()
	}
	t.writeBooks()
}

// Accepted shows the events that were accepted in a bucket: see audit.Store.
func (s *Store) Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error {
	prefix := acceptedKey(nil, bucket)
	err := s.scan(ctx, prefix, prefix, func(_, value []byte) (bool, error) {
		r, err := readRow(tableAccepted, value)
		if err != nil {
			return false, err
		}
		var all []parley.Accepted
		for len(r.b) > 0 && r.err == nil {
			all = append(all, parley.Accepted{Conversation: r.conversation(), Key: parley.EventKey(r.fixed(16)), Token: parley.Token(r.uint64())})
		}
		if err := r.end("accepted events"); err != nil {
			return false, err
		}
		return each(all), ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read accepted events: %w", err)
	}
	return nil
}

// TidyBooks forgets what isn't needed any more: see audit.Store.
func (s *Store) TidyBooks(ctx context.Context, settled []int64, before int64) error {
	err := s.write(ctx, makesSpace, func(t *txn) error {
		for _, b := range settled {
			t.forgetAccepted(b, b+1)
		}
		t.forgetAccepted(0, before)
		for k, p := range t.books.posted {
			if k.Bucket == parley.BucketBefore || k.Bucket >= before {
				continue
			}
			delete(t.books.posted, k)
			t.books.dirty = append(t.books.dirty, k)
			old := *p
			old.Bucket = parley.BucketBefore
			t.post(old)
		}
		t.writeBooks()
		return nil
	})
	if err != nil {
		return fmt.Errorf("tidy books: %w", err)
	}
	return nil
}

// forgetAccepted drops the lists of buckets, if there are any.
func (t *txn) forgetAccepted(from, to int64) {
	begin, end := acceptedKey(nil, from), acceptedKey(nil, to)
	some := false
	t.note(scanOf(t.db, begin, end, func(_, _ []byte) (bool, error) {
		some = true
		return false, nil
	}))
	if some {
		t.note(t.b.DeleteRange(begin, end, nil))
	}
}
