package main_test

import (
	"fmt"
	"strings"

	"github.com/parleychat/parley"
)

// told is the state of a conversation with the fateful bot.
type told struct{ Said int }

// fateful does as it is told, however bad for its process:
//
//	panic     panics
//	fall      recurses until the stack is used up, which no Go program survives
//	loop      never returns
//	call X    calls the service "crm", and says "heard X: answer #N" when that answers
//	say X     answers "said X #N", N being the number of such messages so far
func fateful() parley.Bot {
	return parley.Bot{Name: "fateful", Version: 1, Behavior: parley.Stateful(obey)}
}

// mended is fateful without its panics: it answers them as if it had been told to say
// "mended".
func mended() parley.Bot {
	bot := fateful()
	bot.Behavior = parley.Stateful(func(t *parley.Turn, s *told) error {
		if m, ok := t.Input().(parley.Message); ok && m.Text == "panic" {
			s.Said++
			t.Say(fmt.Sprintf("said mended #%d, late: %v", s.Said, t.Late()))
			return nil
		}
		return obey(t, s)
	})
	return bot
}

func obey(t *parley.Turn, s *told) error {
	if c, ok := t.Input().(parley.Called); ok {
		s.Said++
		t.Say(fmt.Sprintf("heard %s: %s%s #%d", c.Name, c.Body, c.Failure, s.Said))
	}
	m, ok := t.Input().(parley.Message)
	if !ok {
		return nil
	}
	word, rest, _ := strings.Cut(m.Text, " ")
	switch word {
	case "panic":
		panic("told to")
	case "fall":
		return fmt.Errorf("came back from depth %d", fall(0))
	case "loop":
		for n := 0; ; n++ {
			if n < 0 {
				n = 0
			}
		}
	case "call":
		t.Call(parley.Call{Name: rest, Service: "crm", Path: "/orders?of=" + rest, Body: []byte(`{"x":1}`)})
	case "say":
		s.Said++
		t.Say(fmt.Sprintf("said %s #%d", rest, s.Said))
	}
	return nil
}

func fall(n int) int {
	if n < 0 {
		return n
	}
	return fall(n+1) + 1
}
