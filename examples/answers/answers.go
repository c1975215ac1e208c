// Package answers lets a language model answer. The model is a service that the
// operator configures, one that speaks the chat completions protocol; the bot only says
// what to ask it. What the contact writes in several messages is asked as one, and what
// they write while the model thinks waits for the answer.
package answers

import (
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// Service is the name under which the operator configures the model.
const Service = "llm"

// remembers is how many messages the model is told of, counting both sides.
const remembers = 20

const instructions = "You answer questions about the town library. Be brief. If you don't know, say so."

// message is one of the chat completions protocol.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// request and reply are of the same protocol, as far as it is needed.
type request struct {
	Messages []message `json:"messages"`
}

type reply struct {
	Choices []struct {
		Message message `json:"message"`
	} `json:"choices"`
}

// talk is the conversation's state.
type talk struct {
	Past []message `json:"past,omitempty"`
}

// add remembers a message, and forgets the oldest. What is left begins with the
// contact's: models refuse a talk that begins with their own words.
func (k *talk) add(role, content string) {
	k.Past = append(k.Past, message{role, content})
	for len(k.Past) > remembers || k.Past[0].Role != "user" {
		k.Past = k.Past[1:]
	}
}

// Bot asks the model.
func Bot() parley.Bot {
	return flow.Flow[talk]{
		Name: "answers", Version: 1,
		Policy: flow.Collect(2 * time.Second),
		Commands: []flow.Rule[talk]{
			flow.On(flow.Text("forget", "new", "restart"), func(t *flow.Turn[talk]) error {
				t.Say("Forgotten. What would you like to know?")
				t.End()
				return nil
			}),
		},
		Start: flow.Match(
			flow.OnAnswer("answer", answered, failed),
			flow.On(flow.Spoke(), ask),
		),
	}.Bot()
}

func ask(t *flow.Turn[talk]) error {
	if t.Said() == "" {
		t.Say("I can only read text.")
		return nil
	}
	if m, ok := t.Input().(parley.Message); ok && m.ID != "" {
		t.Do(parley.Send{Signal: &parley.Signal{Kind: parley.Typing, MessageID: m.ID}})
	}
	t.State.add("user", t.Said())
	messages := append([]message{{"system", instructions}}, t.State.Past...)
	t.CallWith(parley.Call{Name: "answer", Service: Service, Path: "/chat/completions", Within: 2 * time.Minute}, request{messages})
	t.HoldUntil("answer")
	return nil
}

func answered(t *flow.Turn[talk], r reply) error {
	if len(r.Choices) == 0 || r.Choices[0].Message.Content == "" {
		return failed(t, parley.Called{})
	}
	text := r.Choices[0].Message.Content
	t.State.add("assistant", text)
	t.Say(text)
	return nil
}

func failed(t *flow.Turn[talk], _ parley.Called) error {
	t.State.Past = t.State.Past[:max(0, len(t.State.Past)-1)] // the question that has no answer
	t.Say("I can't think of anything right now. Please ask again in a moment.")
	return nil
}
