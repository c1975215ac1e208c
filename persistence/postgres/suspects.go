package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// trySQL notes rows and returns those that were noted before. Of two who note the
// same row at once, the second waits for the end of the first's transaction, and
// then finds it noted or does it itself. Both go through their rows in the same
// order, and so does acquitSQL, so that they don't wait for each other in a circle.
const trySQL = `
with named as materialized (
    select distinct r.seq, r.token from unnest($2::bigint[], $3::bigint[]) as r (seq, token)
), fresh as (
    insert into parley.suspect (seq, token, noted)
    select n.seq, n.token, ` + clock + ` from named n order by n.seq, n.token
    on conflict do nothing
    returning seq, token
)
select n.seq, n.token from named n
except all
select f.seq, f.token from fresh f
order by 1, 2`

// Try notes rows that are about to be run: see actors.Suspects.
func (s *Store) Try(ctx context.Context, rows []parley.Row) (tried []parley.Row, err error) {
	if len(rows) == 0 {
		return nil, nil
	}
	seqs, tokens := numbers(rows)
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var seq, token int64
		err := r.Scan(&seq, &token)
		tried = append(tried, parley.Row{Seq: parley.Seq(seq), Token: parley.Token(token)})
		return err
	}, trySQL, s.now(), seqs, tokens)
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("note suspects", err)
	}
	return tried, nil
}

const acquitSQL = `
delete from parley.suspect where ctid = any(array(
    select k.tid from (
        select r.seq, r.token from unnest($1::bigint[], $2::bigint[]) as r (seq, token) order by r.seq, r.token
    ) n cross join lateral (
        select s.ctid as tid from parley.suspect s where s.seq = n.seq and s.token = n.token for update
    ) k
))`

// Acquit forgets rows that were run: see actors.Suspects.
func (s *Store) Acquit(ctx context.Context, rows []parley.Row) error {
	if len(rows) == 0 {
		return nil
	}
	seqs, tokens := numbers(rows)
	b := s.begin()
	b.exec(acquitSQL, seqs, tokens)
	return failure("acquit suspects", s.send(ctx, s.work, b))
}

// numbers are rows as two columns.
func numbers(rows []parley.Row) (seqs, tokens []int64) {
	for _, r := range rows {
		seqs, tokens = append(seqs, int64(r.Seq)), append(tokens, int64(r.Token))
	}
	return seqs, tokens
}
