// Package pizza takes the order of a pizza: a menu, corrections at any time, a
// confirmation, a reminder if the order is left unfinished, and a word to cancel.
package pizza

import (
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// remindAfter is how long an unfinished order is left alone.
const remindAfter = 30 * time.Minute

const hungry = "Are you still hungry? Your order is not finished."

// order is the conversation's state: what is known of the order so far.
type order struct {
	Pizza string `json:"pizza,omitempty"`
	Size  string `json:"size,omitempty"`
}

func (o *order) String() string { return strings.ToLower(o.Size) + " " + o.Pizza }

// Bot takes orders.
func Bot() parley.Bot {
	return flow.Flow[order]{
		Name: "pizza", Version: 2,
		// Version 1 wasn't made with flow: the state is the same, but it would not read
		// what a flow stores beside it.
		Migrations: map[int]parley.Migration{1: func(state []byte) ([]byte, error) { return state, nil }},
		Start:      flow.Match(flow.On(flow.Timer("reminder"), remind), flow.On(flow.Spoke(), flow.Fill[order]("order"))),
		Commands:   []flow.Rule[order]{flow.On(flow.Says("cancel", "stop"), cancel)},
		Phrases:    flow.Phrases{Again: "-"}, // the question once more is enough
		Forms: []flow.Form[order]{{
			Name: "order", Fields: []flow.Field[order]{pizza(), size()}, Confirm: confirm, Done: done,
			Remind: flow.Follow{In: remindAfter, Text: hungry},
		}},
	}.Bot()
}

// It doesn't matter what was asked: "a large Margherita" is understood at any time, and
// so is "make it small".
func pizza() flow.Field[order] {
	return flow.Ask("pizza", "Which pizza would you like?", func(o *order) *string { return &o.Pizza },
		flow.OneOf("Margherita", "Salami", "Funghi")).Anytime()
}

func size() flow.Field[order] {
	return flow.Ask("size", "What size?", func(o *order) *string { return &o.Size },
		flow.OneOf("Small", "Medium", "Large")).Anytime().
		Asking(func(t *flow.Turn[order]) string { return "One " + t.State.Pizza + ". What size?" })
}

// remind is for orders that were begun before the form reminded by itself: their timer
// is still there.
func remind(t *flow.Turn[order]) error {
	t.Say(hungry)
	t.Fill("order")
	return nil
}

func confirm(t *flow.Turn[order]) string { return "A " + t.State.String() + ". Shall I order it?" }

func done(t *flow.Turn[order]) error {
	t.Say("Thank you! A " + t.State.String() + " is on its way.")
	t.End()
	return nil
}

func cancel(t *flow.Turn[order]) error {
	t.Say("All right, nothing is ordered. Write again whenever you are hungry.")
	t.End()
	return nil
}
