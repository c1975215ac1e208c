package parley

import "errors"

// The few errors on which a caller decides. They are wrapped with the step that
// met them; test with [errors.Is].
var (
	// ErrConflict is a commit's answer when the conversation or its inbox moved
	// since the turn read them: nothing was written; load and think again.
	ErrConflict = errors.New("conversation moved since the turn read it")
	// ErrFenced is the answer to a sender whose lease has passed to another:
	// nothing was written; it must stop sending for that channel.
	ErrFenced = errors.New("lease has passed to another sender")
	// ErrFull is the answer of a store that has no room left for new events. It
	// is given while there still is room for commits, which make space.
	ErrFull = errors.New("store has no room for new events")
	// ErrFormat marks something stored in a format newer than this program
	// reads. It is never overwritten.
	ErrFormat = errors.New("stored in a newer format than this program reads")
	// ErrAhead is the answer to the retry of a dead letter that a member of the cluster
	// doesn't read: nobody stores what not everybody reads, see Format.
	ErrAhead = errors.New("a member of the cluster doesn't read this yet")
	// ErrUnavailable is the answer of a store that can't be reached or doesn't
	// answer in time. Whether what was asked took hold is open.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrNoLetter is the answer to the retry or the drop of a dead letter that isn't
	// there: it never was, or somebody has retried or dropped it.
	ErrNoLetter = errors.New("no such dead letter")
	// ErrLocked is the answer of a store whose directory another process uses.
	ErrLocked = errors.New("store is in use by another process")
)

// A TurnError says why an event could not be handled; it becomes the cause of
// the event's dead letter. It never carries a message's text.
type TurnError struct {
	Kind  TurnErrorKind
	Cause string
}

// TurnErrorKind is a stored name for the way in which a turn failed.
type TurnErrorKind string

// The ways in which a turn fails.
const (
	TurnReturned  TurnErrorKind = "error"     // the behaviour returned an error
	TurnPanicked  TurnErrorKind = "panic"     // the behaviour panicked
	TurnLimit     TurnErrorKind = "limit"     // the behaviour passed a limit of this package
	TurnState     TurnErrorKind = "state"     // the state could not be decoded or encoded
	TurnMigration TurnErrorKind = "migration" // the state is of an older version and could not be migrated
	TurnBehavior  TurnErrorKind = "behavior"  // the bot has no behaviour of the stored name
	TurnCondemned TurnErrorKind = "condemned" // not run: it ended the process, or never came to an end
)

func (e *TurnError) Error() string { return string(e.Kind) + ": " + e.Cause }
