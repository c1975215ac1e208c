// Package greeter is the smallest bot that remembers something.
package greeter

import (
	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// memory is what is kept of a conversation from one turn to the next.
type memory struct{ Messages int }

// Bot greets a contact once, and counts what it hears from then on.
func Bot() parley.Bot {
	return flow.Flow[memory]{Name: "greeter", Version: 1, Start: greet}.Bot()
}

func greet(t *flow.Turn[memory]) error {
	if _, ok := t.Input().(parley.Message); !ok {
		return nil // a reaction, a button, a colleague's words: nothing to answer
	}
	t.State.Messages++
	if t.State.Messages == 1 {
		t.Say("Hello! Nice to meet you.")
		return nil
	}
	t.Sayf("That was your message number %d.", t.State.Messages)
	return nil
}
