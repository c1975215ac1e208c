package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// books is what has been counted, and the events that were accepted.
type books struct {
	opened   time.Time
	turn     int64
	posted   map[parley.PostingKey]parley.Posting
	accepted map[int64][]parley.Accepted // by bucket
}

func (s *Store) post(all ...parley.Posting) {
	for i := range all {
		p := &all[i]
		sum := s.books.posted[p.Of()]
		sum.Brand, sum.Sort, sum.Bucket = p.Brand, p.Sort, p.Bucket
		sum.Add(p)
		s.books.posted[p.Of()] = sum
	}
}

// accept posts what has been appended, and notes its events.
func (s *Store) accept(a *parley.Arrivals, rows []parley.Pending) {
	bucket := parley.BucketOf(s.now())
	s.post(parley.PostArrivals(a, bucket)...)
	for i := range rows {
		p := &rows[i]
		s.books.accepted[bucket] = append(s.books.accepted[bucket], parley.Accepted{Conversation: p.Conversation, Key: p.Key, Token: p.Token})
	}
}

// Ledger is audit.Store's.
func (s *Store) Ledger(ctx context.Context) (parley.Ledger, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Ledger{}, err
	}
	defer s.end()
	lines := map[parley.PostingKey]*parley.AuditLine{}
	line := func(brand parley.Brand, sort parley.AuditSort, bucket int64) *parley.AuditLine {
		k := parley.PostingKey{Brand: brand, Sort: sort, Bucket: bucket}
		if lines[k] == nil {
			lines[k] = &parley.AuditLine{Posting: parley.Posting{Brand: brand, Sort: sort, Bucket: bucket}}
		}
		return lines[k]
	}
	for _, p := range s.books.posted {
		line(p.Brand, p.Sort, p.Bucket).Add(&p)
	}
	for i := range s.inbox {
		if p := &s.inbox[i]; !parley.OfOwn(p.Data) {
			line(p.Conversation.Channel.Brand, parley.AuditEvents, parley.BucketOf(p.Received)).Pending++
		}
	}
	for name, ch := range s.channels {
		if n := len(ch.receipts); n > 0 {
			line(name.Brand, parley.AuditReceipts, parley.BucketBefore).Pending += int64(n)
		}
	}
	for i := range s.quar {
		line("", parley.AuditBodies, parley.BucketOf(s.quar[i].Received)).Quarantined++
	}
	for i := range s.dead {
		if d := &s.dead[i]; d.Counted() {
			line(d.Conversation.Channel.Brand, parley.AuditEvents, parley.BucketBefore).Letters++
		}
	}
	g := parley.Ledger{At: s.now(), Opened: s.books.opened, Turn: s.books.turn}
	for _, k := range slices.SortedFunc(maps.Keys(lines), parley.PostingKey.Compare) {
		g.Lines = append(g.Lines, *lines[k])
	}
	return g, nil
}

// OpenBooks is audit.Store's.
func (s *Store) OpenBooks(ctx context.Context, as parley.Ledger) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if s.books.turn != as.Turn {
		return parley.ErrConflict
	}
	s.post(as.Opening()...)
	s.books.turn++
	s.books.opened = s.now()
	return nil
}

// CloseBooks is audit.Store's.
func (s *Store) CloseBooks(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.books.turn++
	s.books.opened = time.Time{}
	return nil
}

// Accepted is audit.Store's.
func (s *Store) Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	all := slices.Clone(s.books.accepted[bucket])
	s.end()
	each(all)
	return nil
}

// TidyBooks is audit.Store's.
func (s *Store) TidyBooks(ctx context.Context, settled []int64, before int64) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, b := range settled {
		delete(s.books.accepted, b)
	}
	maps.DeleteFunc(s.books.accepted, func(b int64, _ []parley.Accepted) bool { return b < before })
	for k, p := range s.books.posted {
		if k.Bucket != parley.BucketBefore && k.Bucket < before {
			delete(s.books.posted, k)
			p.Bucket = parley.BucketBefore
			s.post(p)
		}
	}
	return nil
}
