package parley_test

import (
	"fmt"

	"github.com/parleychat/parley"
)

// The snippets of docs/bots-versions.md stand here, so that they are compiled and run.

// orderV1 is the state of version 1: keep the type as long as one may be stored.
type orderV1 struct {
	Pizza string `json:"pizza"`
}

// order is the state of version 2.
type order struct {
	Items []string `json:"items"`
}

func shopV1() *parley.Bot {
	return &parley.Bot{Name: "shop", Version: 1, Behavior: parley.Stateful(func(t *parley.Turn, o *orderV1) error {
		if in, ok := t.Input().(parley.Message); ok {
			o.Pizza = in.Text
			t.Say("One " + o.Pizza + ".")
		}
		return nil
	})}
}

func shop() *parley.Bot {
	return &parley.Bot{
		Name: "shop", Version: 2, Behavior: parley.Stateful(take),
		Migrations: map[int]parley.Migration{
			1: parley.Migrate(func(v orderV1) (order, error) {
				return order{Items: []string{v.Pizza}}, nil
			}),
		},
		Fallback: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say("Sorry, let us begin anew. Which pizza would you like?")
			t.End()
			return nil
		}),
		Previous: shopV1(), // the bot as it was, in the last release
	}
}

func take(t *parley.Turn, o *order) error {
	if in, ok := t.Input().(parley.Message); ok {
		o.Items = append(o.Items, in.Text)
		t.Say(fmt.Sprintf("%d pizzas.", len(o.Items)))
	}
	return nil
}

func ExampleMigrate() {
	s := fresh()
	for i, everybodyReads := range []int{1, 1, 2} {
		c := parley.Step(shop(), s, said(i+1, "Funghi"), parley.Circumstance{BotVersion: everybodyReads})
		s = c.Next
		fmt.Println(c.Outbox[0].Send.Text, string(s.State))
	}
	// Output:
	// One Funghi. {"pizza":"Funghi"}
	// One Funghi. {"pizza":"Funghi"}
	// 2 pizzas. {"items":["Funghi","Funghi"]}
}

func ExampleBot_fallback() {
	s := fresh()
	s.Bot, s.BotVersion, s.State = "shop", 1, []byte(`{"pizza":["an","older","mistake"]}`)
	c := parley.Step(shop(), s, said(1, "Funghi"), parley.Circumstance{})
	fmt.Println(c.Outbox[0].Send.Text)
	// Output:
	// Sorry, let us begin anew. Which pizza would you like?
}
