package actors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/parleychat/parley"
)

// notes is a memory-mapped file that says which rows are being run right now.
// Its pages belong to the kernel, so they survive the process: a stack overflow
// or an exhausted memory can't be recovered in Go, and without a note the event
// that causes it would end one process after another.
//
// At start the rows that were being run become suspects with one more attempt.
// Many of them are innocent, having merely run when the process was killed; so
// suspects run one at a time, and only the second attempt condemns. A row whose
// turn never came to an end is condemned at once.
//
// Beside them it has the rows that this process has noted as suspects among all
// nodes (Suspects.Try). Those of them that were not being run when the process died
// are innocent, which the next one on this folder can tell, and nobody else: so it
// acquits them.
//
// Layout: a header, slots for running turns, then suspects, then what was noted among
// all nodes; each entry is seq, token, attempts (three words of 8 bytes; seq 0 is
// empty). The file is only valid on the machine that wrote it, and only against its
// store.
type notes struct {
	mu       sync.Mutex
	file     []byte
	mapped   bool
	suspects map[parley.Row]int
	tried    map[parley.Row]int // the entry of each that is noted among all nodes
}

const (
	notesHeader   = "parley notes 2\n\n" // 16 bytes
	noteBytes     = 24
	runningSlots  = 64   // turns that run at once; more wait for a slot
	suspectSlots  = 1024 // beyond, a suspect is forgotten: it begins with no attempts again
	triedSlots    = 1024 // beyond, the next process can't acquit what this one has noted
	firstTried    = runningSlots + suspectSlots
	notesBytes    = len(notesHeader) + (firstTried+triedSlots)*noteBytes
	maxAttempts   = 2 // of running an event that the process may have died of
	notesFileMode = 0o600
)

// openNotes reads what an earlier process left in path, counts the attempts,
// and maps a new file in its place. An empty path keeps the notes in memory.
func openNotes(path string) (*notes, error) {
	n := &notes{suspects: map[parley.Row]int{}, tried: map[parley.Row]int{}}
	if path == "" {
		n.file = make([]byte, notesBytes)
		return n, nil
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read notes of running turns: %w", err)
	}
	n.recall(old)
	// A new file, renamed over the old one: whatever instant this process dies
	// at, the next one counts each attempt once.
	if err := os.WriteFile(path+".new", n.image(), notesFileMode); err != nil {
		return nil, fmt.Errorf("write notes of running turns: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("replace notes of running turns: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, notesFileMode)
	if err != nil {
		return nil, fmt.Errorf("open notes of running turns: %w", err)
	}
	defer func() { _ = f.Close() }() // the mapping stays
	n.file, err = unix.Mmap(int(f.Fd()), 0, notesBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map notes of running turns: %w", err)
	}
	n.mapped = true
	return n, nil
}

func (n *notes) recall(old []byte) {
	if len(old) != notesBytes || string(old[:len(notesHeader)]) != notesHeader {
		return // none, or of another version: no attempts are known
	}
	for i := range firstTried {
		row, attempts := getNote(entry(old, i))
		if row.Seq == 0 {
			continue
		}
		if i < runningSlots {
			attempts = 1
		}
		n.suspects[row] += attempts
	}
	for i := firstTried; i < firstTried+triedSlots; i++ {
		row, _ := getNote(entry(old, i))
		if _, twice := n.tried[row]; row.Seq != 0 && n.suspects[row] == 0 && !twice {
			n.tried[row] = firstTried + len(n.tried)
		}
	}
}

func (n *notes) image() []byte {
	b := make([]byte, notesBytes)
	copy(b, notesHeader)
	i := runningSlots
	for row, attempts := range n.suspects {
		if i == runningSlots+suspectSlots {
			break
		}
		putNote(entry(b, i), row, attempts)
		i++
	}
	for row, i := range n.tried {
		putNote(entry(b, i), row, 0)
	}
	return b
}

func entry(b []byte, i int) []byte {
	at := len(notesHeader) + i*noteBytes
	return b[at : at+noteBytes]
}

func getNote(e []byte) (parley.Row, int) {
	row := parley.Row{
		Seq:   parley.Seq(binary.LittleEndian.Uint64(e)),
		Token: parley.Token(binary.LittleEndian.Uint64(e[8:])),
	}
	return row, int(binary.LittleEndian.Uint64(e[16:]) & 0xff)
}

func putNote(e []byte, row parley.Row, attempts int) {
	binary.LittleEndian.PutUint64(e[8:], uint64(row.Token))
	binary.LittleEndian.PutUint64(e[16:], uint64(attempts))
	binary.LittleEndian.PutUint64(e, uint64(row.Seq)) // last: it makes the entry count
}

// running notes that row is about to be run in slot; the zero row clears it.
func (n *notes) running(slot int, row parley.Row) { putNote(entry(n.file, slot), row, 0) }

// attempts is how often row was being run when a process died.
func (n *notes) attempts(row parley.Row) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.suspects[row]
}

func (n *notes) any() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.suspects) > 0
}

// condemn notes that row must not be run again, neither by this process nor by
// the one that replaces it: of turns that never end only the process's end rids
// the machine, and its successor would begin them anew.
func (n *notes) condemn(row parley.Row) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.suspects[row] = maxAttempts
	for i := runningSlots; i < runningSlots+suspectSlots; i++ {
		if noted, _ := getNote(entry(n.file, i)); noted == row || noted.Seq == 0 {
			putNote(entry(n.file, i), row, maxAttempts)
			return
		}
	}
}

// settled forgets rows that have taken effect.
func (n *notes) settled(rows []parley.Row) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.suspects) == 0 {
		return
	}
	for _, row := range rows {
		if _, ok := n.suspects[row]; !ok {
			continue
		}
		delete(n.suspects, row)
		for i := runningSlots; i < runningSlots+suspectSlots; i++ {
			if noted, _ := getNote(entry(n.file, i)); noted == row {
				putNote(entry(n.file, i), parley.Row{}, 0)
			}
		}
	}
}

// innocent are the rows that earlier processes on this folder have noted among all
// nodes, and were not running when they died.
func (n *notes) innocent() []parley.Row {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.tried))
}

// try notes that rows are about to be noted among all nodes.
func (n *notes) try(rows []parley.Row) {
	n.mu.Lock()
	defer n.mu.Unlock()
	free := firstTried
	for _, row := range rows {
		if _, ok := n.tried[row]; ok {
			continue
		}
		for free < firstTried+triedSlots && !vacant(entry(n.file, free)) {
			free++
		}
		if free == firstTried+triedSlots {
			return
		}
		putNote(entry(n.file, free), row, 0)
		n.tried[row] = free
	}
}

func vacant(e []byte) bool { row, _ := getNote(e); return row.Seq == 0 }

// acquit forgets rows that are noted among all nodes no more, or by somebody else.
func (n *notes) acquit(rows []parley.Row) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, row := range rows {
		if i, ok := n.tried[row]; ok {
			putNote(entry(n.file, i), parley.Row{}, 0)
			delete(n.tried, row)
		}
	}
}

// close unmaps the file: nothing may be noted any more.
func (n *notes) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.mapped {
		return nil
	}
	n.mapped, n.suspects, n.tried = false, nil, nil // what settles from now on is told to the next process by the inbox
	return unix.Munmap(n.file)
}
