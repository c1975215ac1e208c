// Package pizzeria is the bot of the demonstration of an upgrade: it takes orders, of
// which its second version remembers more than its first, and keeps both.
//
// It is told what to do as the bot tally is, and answers the same, so that whoever
// talks to it can judge it from outside. Beside that every other command or so is a
// step of an order: the pizza, its size, the word to bake it. What a state must hold
// follows from the number of steps. So each turn can see whether the one that it has
// was made by somebody who understood it; if not, it fails.
package pizzeria

import (
	"errors"
	"slices"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/tally"
)

// The steps of an order are the behaviours of the bot.
func steps() []string { return []string{"", "size", "confirm"} }

func pizzas() []string { return []string{"Margherita", "Salami", "Funghi", "Diavola"} }
func sizes() []string  { return []string{"small", "large"} }

// item is a pizza in an order.
type item struct {
	Pizza string `json:"pizza"`
	Size  string `json:"size,omitempty"`
}

// due is what has been ordered after n steps, and not been baked; and how many orders
// have been.
func due(n uint64) (i item, baked uint64) {
	step, baked := n%3, n/3
	if step > 0 {
		i.Pizza = pizzas()[baked%uint64(len(pizzas()))]
	}
	if step > 1 {
		i.Size = sizes()[baked%uint64(len(sizes()))]
	}
	return i, baked
}

// orderV1 is the state of the first version: one pizza.
type orderV1 struct {
	Commands uint64 `json:"commands"`
	Steps    uint64 `json:"steps"`
	Pizza    string `json:"pizza,omitempty"`
	Size     string `json:"size,omitempty"`
}

// order is the state now: pizzas, and how many orders there were before.
type order struct {
	Commands uint64 `json:"commands"`
	Steps    uint64 `json:"steps"`
	Items    []item `json:"items,omitempty"`
	Baked    uint64 `json:"baked,omitempty"`
}

// Bot is the bot, in its second version. While somebody has the first that goes on.
func Bot() parley.Bot {
	first := bot(1, (*orderV1).take)
	b := bot(2, (*order).take)
	b.Migrations = map[int]parley.Migration{1: parley.Migrate(migrate)}
	b.Previous = &first
	return b
}

// migrate makes a pizza the one item of an order. What the first version didn't count
// follows from what it did.
func migrate(v orderV1) (order, error) {
	o := order{Commands: v.Commands, Steps: v.Steps, Baked: v.Steps / 3}
	if v.Pizza != "" {
		o.Items = []item{{v.Pizza, v.Size}}
	}
	return o, nil
}

// bot makes a version. Each step knows for itself how far the order must be.
func bot[S any](version int, take func(*S, *parley.Turn) (before uint64, err error)) parley.Bot {
	named := map[string]parley.Behavior{}
	for i, name := range steps() {
		named[name] = parley.Stateful(func(t *parley.Turn, s *S) error {
			before, err := take(s, t)
			if err == nil && before%3 != uint64(i) {
				err = errStep
			}
			return err
		})
	}
	b := parley.Bot{Name: "pizzeria", Version: version, Behavior: named[""], Named: named}
	delete(named, "")
	return b
}

var (
	errStep  = errors.New("the order is at another step than the conversation")
	errOrder = errors.New("the order isn't what was ordered")
)

// moves reports whether a command is a step: whether it came at an even millisecond, so
// that people who write in turn don't all stand at the same.
func moves(t *parley.Turn) bool { return t.Now().UnixMilli()%2 == 0 }

// take does what the turn's input says, and reports how many steps there were before.
func (o *orderV1) take(t *parley.Turn) (before uint64, err error) {
	before = o.Steps
	if i, _ := due(before); (item{o.Pizza, o.Size}) != i {
		return before, errOrder
	}
	if tally.Obey(t, &o.Commands) && moves(t) {
		o.Steps++
		i, _ := due(o.Steps)
		o.Pizza, o.Size = i.Pizza, i.Size
		t.Become(steps()[o.Steps%3])
	}
	return before, nil
}

// take is the same.
func (o *order) take(t *parley.Turn) (before uint64, err error) {
	before = o.Steps
	if items, baked := o.due(); !slices.Equal(o.Items, items) || o.Baked != baked {
		return before, errOrder
	}
	if tally.Obey(t, &o.Commands) && moves(t) {
		o.Steps++
		o.Items, o.Baked = o.due()
		t.Become(steps()[o.Steps%3])
	}
	return before, nil
}

func (o *order) due() ([]item, uint64) {
	i, baked := due(o.Steps)
	if i == (item{}) {
		return nil, baked
	}
	return []item{i}, baked
}
