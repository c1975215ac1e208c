// Package greeter is the smallest bot that remembers something.
package greeter

import (
	"fmt"

	"github.com/parleychat/parley"
)

// memory is what is kept of a conversation from one turn to the next.
type memory struct{ Messages int }

// Bot greets a contact once, and counts what it hears from then on.
func Bot() parley.Bot {
	return parley.Bot{Name: "greeter", Version: 1, Behavior: parley.Stateful(greet)}
}

func greet(t *parley.Turn, m *memory) error {
	if _, ok := t.Input().(parley.Message); !ok {
		return nil // a reaction, a button, a colleague's words: nothing to answer
	}
	m.Messages++
	if m.Messages == 1 {
		t.Say("Hello! Nice to meet you.")
		return nil
	}
	t.Say(fmt.Sprintf("That was your message number %d.", m.Messages))
	return nil
}
