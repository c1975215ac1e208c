// Package modelcheck holds small models of the protocols that the promises rest on, and
// goes through every state that they can reach: each interleaving of their steps, within
// a scope of few events, nodes and faults. Where the simulation draws and the walk
// crashes once, this leaves out nothing, of a world that is smaller.
//
// A model is the protocol as the code has it, a step for each access to the store or to
// the provider; each step names the function that it stands for. That the code does the
// same is what the stores' exam, the simulation and the walk are for.
//
//	commit.go    turns, versions and rows: actors.Conversation against the store
//	send.go      leases, claims, marks and doubts: egress.Sender against the outbox
//	merge.go     two conversations that become one: parley.Merge amid turns, timers and replies
//	handover.go  shards that change hands: actors.territory amid turns
package modelcheck

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
)

// Step is one that a state allows.
type Step[S comparable] struct {
	Name  Name // what happens, and to whom
	Fault bool // it is what a world without faults is spared
	To    S
}

// Name is what a step is called. It is written out only for a trace: models take millions
// of steps.
type Name struct {
	format string
	args   []any
}

// Named is a name, as [fmt.Sprintf] would write it.
func Named(format string, args ...any) Name { return Name{format, args} }

// String writes it out.
func (n Name) String() string { return fmt.Sprintf(n.format, n.args...) }

// Model is a world of states S.
type Model[S comparable] struct {
	Name  string
	Start S
	Steps func(S) []Step[S]
	// Broken names the promise that a state breaks; empty: none.
	Broken func(S) string
	// Settled: nothing is owed any more. From every state such a one must be
	// reachable without another fault.
	Settled func(S) bool
}

// Report is what a check found.
type Report struct {
	States, Transitions, Depth int
	Broken                     string   // the promise; empty: all are kept
	Trace                      []string // the shortest way there
}

// maxStates bounds the memory of a check: a model that has more is too large, which is
// an error of its author's.
const maxStates = 40_000_000

// Check goes through the model, breadth first, so that the trace is a shortest one.
func Check[S comparable](m Model[S]) (Report, error) {
	c := checker[S]{model: m, seed: maphash.MakeSeed(), table: make([]int32, 1<<12)}
	c.visit(m.Start, -1)
	for i := 0; i < len(c.states); i++ {
		if why := m.Broken(c.states[i]); why != "" {
			return c.report(i, why), nil
		}
		if len(c.states) > maxStates {
			return Report{}, fmt.Errorf("model %s has more than %d states", m.Name, maxStates)
		}
		c.expand(i)
	}
	if i := c.stuck(); i >= 0 {
		return c.report(i, "it never settles, even without another fault"), nil
	}
	return c.report(len(c.states)-1, ""), nil
}

// checker numbers states as it finds them.
type checker[S comparable] struct {
	model       Model[S]
	seed        maphash.Seed
	table       []int32 // of states, by hash: a number from 1; 0: free
	states      []S
	from        []int32 // the state before; -1 of the first
	healing     []edge  // the steps that aren't faults
	transitions int
}

type edge struct{ from, to int32 }

// visit is the number of a state. One that is new was reached from another.
func (c *checker[S]) visit(s S, from int) int {
	if 2*len(c.states) >= len(c.table) {
		c.grow()
	}
	at := c.place(s)
	if n := c.table[at]; n != 0 {
		return int(n - 1)
	}
	c.states, c.from = append(c.states, s), append(c.from, int32(from))
	c.table[at] = int32(len(c.states))
	return len(c.states) - 1
}

// place is where a state stands in the table, or would.
func (c *checker[S]) place(s S) int {
	mask := len(c.table) - 1
	at := int(maphash.Comparable(c.seed, s)) & mask
	for c.table[at] != 0 && c.states[c.table[at]-1] != s {
		at = (at + 1) & mask
	}
	return at
}

func (c *checker[S]) grow() {
	c.table = make([]int32, 2*len(c.table))
	for i := range c.states {
		c.table[c.place(c.states[i])] = int32(i + 1)
	}
}

func (c *checker[S]) expand(i int) {
	for _, s := range c.model.Steps(c.states[i]) {
		c.transitions++
		to := c.visit(s.To, i)
		if !s.Fault {
			c.healing = append(c.healing, edge{from: int32(i), to: int32(to)})
		}
	}
}

// stuck is the first state from which none that is settled is reached without a fault;
// -1: there is none.
func (c *checker[S]) stuck() int {
	slices.SortFunc(c.healing, func(a, b edge) int { return cmp.Compare(a.to, b.to) })
	heals := make([]bool, len(c.states))
	var todo []int32
	for i := range c.states {
		if c.model.Settled(c.states[i]) {
			heals[i] = true
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		first, _ := slices.BinarySearchFunc(c.healing, i, func(e edge, to int32) int { return cmp.Compare(e.to, to) })
		for _, e := range c.healing[first:] {
			if e.to != i {
				break
			}
			if !heals[e.from] {
				heals[e.from] = true
				todo = append(todo, e.from)
			}
		}
	}
	return slices.Index(heals, false)
}

// report is of a check that ended at a state.
func (c *checker[S]) report(at int, broken string) Report {
	r := Report{States: len(c.states), Transitions: c.transitions, Broken: broken}
	for i := int32(at); c.from[i] >= 0; i = c.from[i] {
		if r.Depth++; broken != "" {
			r.Trace = append(r.Trace, c.step(c.from[i], i))
		}
	}
	slices.Reverse(r.Trace)
	return r
}

// step names the step from one state to another.
func (c *checker[S]) step(from, to int32) string {
	for _, s := range c.model.Steps(c.states[from]) {
		if s.To == c.states[to] {
			return s.Name.String()
		}
	}
	return "a step that isn't there any more" // Steps isn't a function of the state
}
