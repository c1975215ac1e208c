package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parleychat/parley"
)

// errRefused is what is wrapped if the database refuses a value.
var errRefused = errors.New("database refuses it")

var errWarned = errors.New("the transaction ended with a warning: whether it is replicated is open")

// failure makes an error of pgx one of ours: the step's name, no values of rows
// (the server's detail repeats them), and whether it was the data or the database.
func failure(step string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	switch {
	case isOurs(err):
		return fmt.Errorf("%s: %w", step, err)
	case errors.As(err, &pg) && ofTheData(pg.Code):
		return fmt.Errorf("%s: %w: %s (%s)", step, errRefused, pg.Message, pg.Code)
	case errors.As(err, &pg):
		return fmt.Errorf("%s: database: %s (%s): %w", step, pg.Message, pg.Code, parley.ErrUnavailable)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", step, parley.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w: %w", step, err, parley.ErrUnavailable)
}

// isOurs reports whether err was made here and says already what it is.
func isOurs(err error) bool {
	var scan pgx.ScanArgError
	for _, known := range []error{parley.ErrFenced, parley.ErrConflict, parley.ErrFormat, parley.ErrAhead, parley.ErrUnavailable, parley.ErrNoLetter, errContacts, errStored, errTooLong, errForm, errRefused, errName, errRow, errAnotherCopy, ErrNotEmpty} {
		if errors.Is(err, known) {
			return true
		}
	}
	return errors.As(err, &scan)
}

// ofTheData reports whether a SQLSTATE says that these values can't be stored,
// while others could: data exception, integrity constraint, a value over a limit
// of the program's. Everything else (connections, resources, locks, shutdown,
// rights, a schema that isn't there) is the database's state.
//
// A check is, too: our tables check no values. It fails if the table of a day is
// attached just when a row for that day is about to be written beside it.
func ofTheData(code string) bool {
	const checkViolation = "23514"
	return code != checkViolation && (strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "54"))
}
