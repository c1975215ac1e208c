package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/parleychat/parley"
)

// Try is actors.Suspects'.
func (s *Store) Try(ctx context.Context, rows []parley.Row) ([]parley.Row, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var tried []parley.Row
	for _, r := range each(rows) {
		if _, noted := s.suspects[r]; noted {
			tried = append(tried, r)
			continue
		}
		s.suspects[r] = s.now()
	}
	return tried, nil
}

// Acquit is actors.Suspects'.
func (s *Store) Acquit(ctx context.Context, rows []parley.Row) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, r := range rows {
		delete(s.suspects, r)
	}
	return nil
}

// each is rows in the order of numbers, each once.
func each(rows []parley.Row) []parley.Row {
	sorted := slices.SortedFunc(slices.Values(rows), func(a, b parley.Row) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Token, b.Token))
	})
	return slices.Compact(sorted)
}
