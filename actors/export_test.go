package actors

import (
	"github.com/parleychat/parley"
)

// Notes opens up the notes of running turns to tests.
type Notes struct{ *notes }

// OpenNotes is openNotes.
func OpenNotes(path string) (Notes, error) {
	n, err := openNotes(path)
	return Notes{n}, err
}

func (n Notes) Attempts(row parley.Row) int      { return n.attempts(row) }
func (n Notes) Running(slot int, row parley.Row) { n.running(slot, row) }
func (n Notes) Try(rows ...parley.Row)           { n.try(rows) }
func (n Notes) Acquit(rows ...parley.Row)        { n.acquit(rows) }
func (n Notes) Innocent() []parley.Row           { return n.innocent() }
func (n Notes) Close() error                     { return n.close() }
func (n Notes) Settled(rows []parley.Row)        { n.settled(rows) }

// Runners opens up what runs mailboxes to tests.
type Runners struct{ *runners }

// NewRunners is newRunners.
func NewRunners(end <-chan struct{}) Runners { return Runners{newRunners(end)} }

// RunnersIdle is how many wait at most.
const RunnersIdle = runnersIdle

// Idle is how many wait.
func (r Runners) Idle() int { return int(r.idle.Load()) }
