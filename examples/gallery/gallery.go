// Package gallery shows each sort of message that a bot can send, as far as the
// contact's platform shows it: ask it for a sort by its name, or choose from its menu.
package gallery

import (
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// typingFor is how long the bot seems to write.
const typingFor = 2 * time.Second

// timer is the end of it.
const timer = "written"

// Bot shows messages. It remembers nothing.
func Bot() parley.Bot {
	return parley.Bot{Name: "gallery", Version: 1, Behavior: parley.BehaviorFunc(show)}
}

// exhibit is a sort of message, and where it can be shown.
type exhibit struct {
	name string
	on   []parley.ChannelKind
	send func(about string) parley.Send // about is the contact's message
}

func everywhere() []parley.ChannelKind {
	return []parley.ChannelKind{parley.Messenger, parley.Instagram, parley.WhatsApp}
}

func pages() []parley.ChannelKind   { return []parley.ChannelKind{parley.Messenger, parley.Instagram} }
func numbers() []parley.ChannelKind { return []parley.ChannelKind{parley.WhatsApp} }

const site = "https://trattoria.example"

func exhibits() []exhibit {
	return []exhibit{
		{"buttons", everywhere(), func(string) parley.Send {
			return parley.Send{Text: "Your table is booked for eight.", Buttons: []parley.Button{{Title: "Fine", Payload: "fine"}, {Title: "Another time", Payload: "another"}}}
		}},
		{"link", everywhere(), func(string) parley.Send {
			return parley.Send{Text: "What we cook today stands on our page.", Buttons: []parley.Button{{Title: "Open the page", URL: site}}}
		}},
		{"list", numbers(), func(string) parley.Send {
			return parley.Send{Text: "What may it be?", Header: "Trattoria", Footer: "until 10 pm", List: dishes()}
		}},
		{"cards", pages(), func(string) parley.Send { return parley.Send{Cards: cards()} }},
		{"image", everywhere(), func(string) parley.Send {
			return parley.Send{Media: &parley.Media{Kind: parley.Image, URL: site + "/terrace.jpg"}}
		}},
		{"document", everywhere(), func(string) parley.Send {
			return parley.Send{Media: &parley.Media{Kind: parley.Document, URL: site + "/menu.pdf"}}
		}},
		{"location", numbers(), func(string) parley.Send {
			return parley.Send{Location: &parley.Location{Latitude: 48.4011, Longitude: 9.9876, Name: "Trattoria", Address: "Münsterplatz 1, Ulm"}}
		}},
		{"place", numbers(), func(string) parley.Send { return parley.Send{Text: "Where shall we bring it?", AskLocation: true} }},
		{"template", numbers(), func(string) parley.Send {
			return parley.Send{Template: &parley.Template{Name: "order_sent", Language: "en_US", Category: parley.Utility, Components: []parley.Component{
				{Type: "body", Parameters: []parley.Parameter{{Text: "4711"}, {Text: "eight o'clock"}}},
			}}}
		}},
		{"reaction", everywhere(), func(about string) parley.Send {
			return parley.Send{Reaction: &parley.Reaction{MessageID: about, Emoji: "❤"}}
		}},
		{"quote", everywhere(), func(about string) parley.Send { return parley.Send{Text: "That is what you said.", ReplyTo: about} }},
	}
}

func dishes() *parley.List {
	return &parley.List{Button: "Dishes", Sections: []parley.ListSection{
		{Title: "Pizza", Rows: []parley.ListRow{{Title: "Margherita", Description: "tomato, mozzarella, basil"}, {Title: "Diavola", Description: "hot"}}},
		{Title: "Pasta", Rows: []parley.ListRow{{Title: "Penne all'arrabbiata", Description: "hot, too"}}},
	}}
}

func cards() []parley.Card {
	card := func(title, about string) parley.Card {
		return parley.Card{Title: title, Subtitle: about, ImageURL: site + "/" + strings.ToLower(title) + ".jpg", Buttons: []parley.Button{{Title: "Order", Payload: strings.ToLower(title)}}}
	}
	return []parley.Card{card("Margherita", "tomato, mozzarella, basil"), card("Diavola", "hot"), card("Funghi", "mushrooms")}
}

func show(t *parley.Turn) error {
	switch in := t.Input().(type) {
	case parley.Message:
		answer(t, in.ID, in.Text+" "+in.Payload)
	case parley.Postback:
		t.Say("You pressed " + in.Title + ".")
	case parley.TimerFired:
		t.Say("That took me a while to write.")
	default: // nothing to show
	}
	return nil
}

// answer shows what is asked for, or says what there is.
func answer(t *parley.Turn, id, text string) {
	words := strings.Fields(strings.ToLower(text))
	kind := t.Conversation().Channel.Kind
	if slices.Contains(words, "typing") {
		t.Do(parley.Send{Signal: &parley.Signal{Kind: parley.Typing, MessageID: id}})
		t.SetTimer(timer, typingFor)
		return
	}
	for _, e := range exhibits() {
		if slices.Contains(words, e.name) && slices.Contains(e.on, kind) {
			t.Do(e.send(id))
			return
		}
	}
	t.Say("What shall I show you?", menu(kind)...)
}

// menuMost is what WhatsApp's list of quick replies has room for.
const menuMost = 10

func menu(kind parley.ChannelKind) []parley.QuickReply {
	var all []parley.QuickReply
	for _, e := range append(exhibits(), exhibit{name: "typing", on: everywhere()}) {
		if slices.Contains(e.on, kind) && len(all) < menuMost {
			all = append(all, parley.QuickReply{Title: strings.ToUpper(e.name[:1]) + e.name[1:], Payload: e.name})
		}
	}
	return all
}
