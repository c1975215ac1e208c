// Package faq answers what is often asked, in two languages, and gets a person for the
// rest. While the person has the word it is silent; it comes back when it is called, or
// after a while.
package faq

import (
	"embed"
	"io/fs"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// personHas is how long a person has the word after they last wrote.
const personHas = 4 * time.Hour

//go:embed texts
var files embed.FS

// asked is the conversation's state.
type asked struct {
	Unknown int `json:"unknown,omitempty"` // questions in a row that had no answer
}

type turn = flow.Turn[asked]

// Bot answers questions.
func Bot() parley.Bot {
	return flow.Flow[asked]{
		Name: "faq", Version: 1,
		Messages: Texts(), Language: "en",
		PersonTakesOver: personHas,
		Commands: []flow.Rule[asked]{
			flow.On(flow.Text("english"), speak("en")),
			flow.On(flow.Text("deutsch"), speak("de")),
			flow.On(flow.Any(flow.Payload("person"), flow.Says("person", "human", "mensch", "mitarbeiter")), person),
			flow.On(flow.Text("bot"), back).Always(),
			flow.On(flow.Returned(), back),
		},
		Start: flow.Match(
			flow.On(flow.Any(flow.Payload("hours"), flow.Says("open", "hours", "offen", "geöffnet")), answer("hours")),
			flow.On(flow.Any(flow.Payload("returns"), flow.Says("return", "refund", "umtauschen", "rückgabe")), answer("returns")),
			flow.On(flow.Any(flow.Payload("shipping"), flow.Says("shipping", "delivery", "versand", "lieferung")), answer("shipping")),
			flow.On(flow.Text("hello", "hi", "hallo", "menu"), menu),
		),
		Otherwise: unknown,
	}.Bot()
}

// Texts are what the bot says.
func Texts() flow.Messages {
	folder, err := fs.Sub(files, "texts")
	if err != nil {
		panic(err)
	}
	texts, err := flow.ReadMessages(folder)
	if err != nil {
		panic(err)
	}
	return texts
}

func topics(t *turn) []flow.Option {
	return []flow.Option{
		{Title: t.Text("topic.hours"), Payload: "hours"},
		{Title: t.Text("topic.returns"), Payload: "returns"},
		{Title: t.Text("topic.shipping"), Payload: "shipping"},
	}
}

func menu(t *turn) error {
	t.State.Unknown = 0
	t.Offer(t.Text("welcome"), topics(t)...)
	return nil
}

func speak(language string) flow.Handler[asked] {
	return func(t *turn) error {
		t.SetLanguage(language)
		return menu(t)
	}
}

func answer(topic string) flow.Handler[asked] {
	return func(t *turn) error {
		t.State.Unknown = 0
		t.Say(t.Text("answer." + topic))
		return nil
	}
}

// unknown offers a person when it has not understood twice.
func unknown(t *turn) error {
	t.State.Unknown++
	if t.State.Unknown < 2 {
		t.Offer(t.Text("unknown"), topics(t)...)
		return nil
	}
	t.Offer(t.Text("offer.person", flow.Args{"n": t.State.Unknown}), flow.Option{Title: t.Text("topic.person"), Payload: "person"})
	return nil
}

func person(t *turn) error {
	t.State.Unknown = 0
	t.Tag("waits_for_person")
	t.Say(t.Text("person"))
	t.HandOff(parley.SpeakerPerson, personHas)
	return nil
}

func back(t *turn) error {
	t.Resume()
	t.Untag("waits_for_person")
	t.Offer(t.Text("back"), topics(t)...)
	return nil
}
