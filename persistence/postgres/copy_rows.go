package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

var (
	errName = errors.New("a channel or a contact has a name that the database can't keep: a part of it is empty, or has a slash or a control character")
	errRow  = errors.New("a row can't be read, or contradicts itself")
)

// The bounds of a part that is read.
const (
	copiedItems = 2000
	copiedBytes = 2 << 20
)

// write writes what a part has of the table's kind.
func (t *copiedTable) write(ctx context.Context, tx pgx.Tx, part *parley.Holdings) error {
	var w rowWriter
	t.put(part, &w)
	err := w.err
	if err == nil && len(w.rows) > 0 {
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"parley", t.name}, strings.Split(t.columns, ", "), pgx.CopyFromRows(w.rows))
	}
	return failure("table "+t.name, err)
}

// read reads the whole table, part by part.
func (t *copiedTable) read(ctx context.Context, tx pgx.Tx, each func(*parley.Holdings)) error {
	rows, err := tx.Query(ctx, fmt.Sprintf("select %s from parley.%s", t.columns, t.name))
	if err != nil {
		return failure("table "+t.name, err)
	}
	defer rows.Close()
	part, items, bytes := &parley.Holdings{}, 0, 0
	for rows.Next() {
		var r rowReader
		if r.values, err = rows.Values(); err != nil {
			return failure("table "+t.name, err)
		}
		if t.get(part, &r); r.err != nil {
			return failure("table "+t.name, r.err)
		}
		for _, v := range rows.RawValues() {
			bytes += len(v)
		}
		if items++; items >= copiedItems || bytes >= copiedBytes {
			each(part)
			part, items, bytes = &parley.Holdings{}, 0, 0
		}
	}
	each(part)
	return failure("table "+t.name, rows.Err())
}

// rowWriter gathers rows. After the first error they are of no use.
type rowWriter struct {
	rows [][]any
	err  error
}

func (w *rowWriter) row(values ...any) { w.rows = append(w.rows, values) }

// name is the stored name of a conversation, if it can have one here.
func (w *rowWriter) name(c parley.Conversation) []byte {
	key := conversationKey(c)
	if again, err := parseKey(key); err != nil || again != c {
		w.err = errName
	}
	if len(key) > keyBytesMax {
		w.err = errTooLong
	}
	return key
}

func (w *rowWriter) channel(c parley.Channel) []byte {
	if c.Validate() != nil {
		w.err = errName
	}
	return channelKey(c)
}

// rowReader takes a row apart, from the first column on. After the first error it
// yields zeros, so that its caller checks once, at the end.
type rowReader struct {
	values []any
	err    error
}

func (r *rowReader) note(err error) {
	switch {
	case err == nil || r.err != nil:
	case errors.Is(err, parley.ErrFormat):
		r.err = err
	default:
		r.err = errRow // without the values
	}
}

// must notes that a row contradicts itself.
func (r *rowReader) must(ok bool) {
	if !ok {
		r.note(errRow)
	}
}

func (r *rowReader) next() any {
	if len(r.values) == 0 {
		r.note(errRow)
		return nil
	}
	v := r.values[0]
	r.values = r.values[1:]
	return v
}

// number is an integer of any size; nothing is 0.
func (r *rowReader) number() int64 {
	switch v := r.next().(type) {
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case int64:
		return v
	case nil:
	default:
		r.note(errRow)
	}
	return 0
}

func (r *rowReader) bytes() []byte {
	b, ok := r.next().([]byte)
	r.must(ok)
	return b
}

func (r *rowReader) text() string { return string(r.bytes()) }

// fixed is an id, or a key of the same size.
func (r *rowReader) fixed() (id parley.ID) {
	switch v := r.next().(type) {
	case [16]byte:
		return v
	case []byte:
		r.must(len(v) == len(id))
		copy(id[:], v)
	default:
		r.note(errRow)
	}
	return id
}

func (r *rowReader) flag() bool {
	b, ok := r.next().(bool)
	r.must(ok)
	return b
}

func (r *rowReader) time() time.Time { return fromMS(r.number()) }

func (r *rowReader) conversation() parley.Conversation {
	c, err := parseKey(r.bytes())
	r.note(err)
	return c
}

func (r *rowReader) channel() parley.Channel {
	c, err := parseKey(append(r.bytes(), "/-"...))
	r.note(err)
	return c.Channel
}
