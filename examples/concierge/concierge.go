// Package concierge is a bot that lets a language model answer, by way of a service
// that the operator has configured as "model": see Adapter.
package concierge

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// Line is one thing that was said.
type Line struct {
	From string `json:"from"` // user or assistant
	Text string `json:"text"`
}

// Question is what the bot asks the service.
type Question struct {
	Lines []Line `json:"lines"` // the last of the dialogue, oldest first
}

// Reply is what that answers.
type Reply struct {
	Text string `json:"text"`
}

// memory is what is kept of a conversation from one turn to the next.
type memory struct {
	Lines []Line // at most maxLines
}

const (
	maxLines = 20
	answer   = "answer" // name of the call, and of the timer
	patience = 8 * time.Second
	within   = 45 * time.Second
)

// Bot answers with what the model says. While that takes its time the user hears that
// it does; if it doesn't answer at all, that.
func Bot() parley.Bot {
	return parley.Bot{Name: "concierge", Version: 1, Behavior: parley.Stateful(talk)}
}

func talk(t *parley.Turn, m *memory) error {
	switch in := t.Input().(type) {
	case parley.Message:
		if in.Text == "" {
			return nil
		}
		m.add("user", in.Text)
		return ask(t, m)
	case parley.TimerFired:
		t.Say("One moment, please …")
	case parley.Called:
		t.CancelTimer(answer)
		reply(t, m, in)
	default: // a reaction, a colleague's words: nothing to answer
	}
	return nil
}

// ask asks about all that was said. What was asked before and isn't answered yet is
// part of it: a call of the same name takes its place.
func ask(t *parley.Turn, m *memory) error {
	body, err := json.Marshal(Question{Lines: m.Lines})
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	t.Call(parley.Call{Name: answer, Service: "model", Path: "/answers", Body: body, Within: within})
	t.SetTimer(answer, patience)
	return nil
}

func reply(t *parley.Turn, m *memory, in parley.Called) {
	var r Reply
	if !in.OK() || in.Decode(&r) != nil || r.Text == "" {
		t.Say("I can't think of an answer right now. Please try again in a minute.")
		return
	}
	m.add("assistant", r.Text)
	t.Say(r.Text)
}

func (m *memory) add(from, text string) {
	m.Lines = append(m.Lines, Line{From: from, Text: text})
	if n := len(m.Lines) - maxLines; n > 0 {
		m.Lines = slices.Delete(m.Lines, 0, n)
	}
}
