package actors

import (
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors/wire"
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
func (n Notes) Settled(rows []parley.Row)        { n.settled(rows) }

// Territory opens up a node's territory to tests.
type Territory struct{ *territory }

// Ground is what a test does for a territory.
type Ground interface {
	Hold(shard uint16)
	LetGo(shard uint16)
	Ask(node string, claim uint64, shards []uint16)
	Answer(node string, claim uint64, shards []uint16)
	Open(claim uint64, shards []uint16)
}

type testGround struct{ Ground }

func (g testGround) hold(shard uint16)  { g.Hold(shard) }
func (g testGround) letGo(shard uint16) { g.LetGo(shard) }
func (g testGround) ask(node string, claim uint64, s shardSet) {
	g.Ask(node, claim, listed(s))
}

func (g testGround) answer(node string, claim uint64, s shardSet) {
	g.Answer(node, claim, listed(s))
}
func (g testGround) open(claim uint64, s, _ shardSet) { g.Open(claim, listed(s)) }

func listed(s shardSet) (all []uint16) {
	s.each(func(shard uint16) { all = append(all, shard) })
	return all
}

func setOf(shards []uint16) (s shardSet) {
	for _, shard := range shards {
		s.add(shard)
	}
	return s
}

// NewTerritory is newTerritory.
func NewTerritory(self string, g Ground) Territory {
	return Territory{newTerritory(self, testGround{g})}
}

func (t Territory) Place(p Placement, now time.Duration) { t.place(p, now) }
func (t Territory) Tick(now time.Duration)               { t.tick(now) }
func (t Territory) Evict(now time.Duration)              { t.evict(now) }
func (t Territory) Gone(shard uint16)                    { t.gone(shard) }
func (t Territory) Holds(shard uint16) bool              { return t.holds(shard) }
func (t Territory) State(shard uint16) int               { return int(t.state(shard)) }

func (t Territory) Release(node string, claim uint64, shards []uint16, now time.Duration) {
	t.release(node, claim, setOf(shards), now)
}

func (t Territory) Released(node string, claim uint64, shards []uint16, now time.Duration) {
	t.released(node, claim, setOf(shards), now)
}

func (t Territory) Opened(claim uint64, shards []uint16, serve func(uint16)) {
	t.opened(claim, setOf(shards), serve)
}

// RowsFromWire is rowsFromWire, without how often they were passed on.
func RowsFromWire(in []*wire.Row) (rows []parley.Pending, err error) {
	all, err := rowsFromWire(in)
	for i := range all {
		rows = append(rows, all[i].Pending)
	}
	return rows, err
}

// RowsToWire is rowsToWire.
func RowsToWire(rows []parley.Pending) []*wire.Row {
	all := make([]routed, len(rows))
	for i := range rows {
		all[i].Pending = rows[i]
	}
	out, _, _ := rowsToWire(all)
	return out
}
