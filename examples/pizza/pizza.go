// Package pizza takes the order of a pizza: a menu, corrections at any time, a
// confirmation, a reminder if the order is left unfinished, and a word to cancel.
package pizza

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/parleychat/parley"
)

// remindAfter is how long an unfinished order is left alone.
const remindAfter = 30 * time.Minute

// reminder is the name of the one timer: whoever writes again sets it anew.
const reminder = "reminder"

// order is the conversation's state: what is known of the order so far.
type order struct {
	Pizza string `json:"pizza,omitempty"`
	Size  string `json:"size,omitempty"`
}

// Bot takes orders.
func Bot() parley.Bot {
	return parley.Bot{Name: "pizza", Version: 1, Behavior: parley.Stateful(take)}
}

// WhatsApp shows at most three quick replies as buttons, and 20 characters of
// a title: the menus keep to that.
func pizzas() []string { return []string{"Margherita", "Salami", "Funghi"} }
func sizes() []string  { return []string{"Small", "Medium", "Large"} }

func take(t *parley.Turn, o *order) error {
	switch in := t.Input().(type) {
	case parley.Message:
		o.hear(t, in.Text+" "+in.Payload)
	case parley.Postback:
		o.hear(t, in.Payload)
	case parley.TimerFired:
		t.Say("Are you still hungry? Your order is not finished.")
		o.ask(t)
	default: // reactions, echoes of colleagues and the like: nothing to answer
	}
	return nil
}

// hear takes from the words whatever they say about the order. It doesn't matter
// what was asked: "make it large" is understood at any time.
func (o *order) hear(t *parley.Turn, text string) {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) })
	said := func(word string) bool { return slices.Contains(words, word) }
	before := *o
	switch {
	case said("cancel") || said("stop"):
		t.Say("All right, nothing is ordered. Write again whenever you are hungry.")
		t.End()
		return
	case said("change") && said("pizza"):
		o.Pizza = ""
	case said("change") && said("size"):
		o.Size = ""
	}
	o.Pizza = pick(o.Pizza, pizzas(), said)
	o.Size = pick(o.Size, sizes(), said)
	if said("yes") && o.complete() && *o == before {
		t.Say("Thank you! A " + o.String() + " is on its way.")
		t.End()
		return
	}
	o.ask(t)
	t.SetTimer(reminder, remindAfter)
}

// pick is the option that was said, or else what it was before.
func pick(before string, options []string, said func(string) bool) string {
	for _, option := range options {
		if said(strings.ToLower(option)) {
			return option
		}
	}
	return before
}

func (o *order) complete() bool { return o.Pizza != "" && o.Size != "" }

func (o *order) String() string { return strings.ToLower(o.Size) + " " + o.Pizza }

// ask asks for what is missing, and in the end whether all is right.
func (o *order) ask(t *parley.Turn) {
	switch {
	case o.Pizza == "":
		t.Say("Which pizza would you like?", menu(pizzas())...)
	case o.Size == "":
		t.Say("One "+o.Pizza+". What size?", menu(sizes())...)
	default:
		t.Say("A "+o.String()+". Shall I order it?", menu([]string{"Yes", "Change pizza", "Change size"})...)
	}
}

func menu(titles []string) []parley.QuickReply {
	replies := make([]parley.QuickReply, 0, len(titles))
	for _, title := range titles {
		replies = append(replies, parley.QuickReply{Title: title, Payload: title})
	}
	return replies
}
