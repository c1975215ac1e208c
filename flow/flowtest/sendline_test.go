package flowtest_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

// Two messages that differ are shown differently; each takes one line that begins with
// bot, and further ones that are indented: so a transcript can hold it.
func TestSendLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := send(t)
		b := like(t, a, send(t))
		x, y := show(t, a), show(t, b)
		if same := kept(t, a) == kept(t, b); same != (x == y) {
			t.Fatalf("%s\n%s\nare shown as\n%s\n%s", kept(t, a), kept(t, b), x, y)
		}
		script, err := flowtest.Parse("x.txt", "anna: hi\n"+x+"\n")
		if err != nil || script.String() != "anna: hi\n"+x+"\n" {
			t.Fatalf("read back as %v (%v)", script, err)
		}
	})
}

// like is a with a part of b.
func like(t *rapid.T, a, b parley.Send) parley.Send {
	switch rapid.IntRange(0, 5).Draw(t, "part") {
	case 0:
		a.QuickReplies = b.QuickReplies
	case 1:
		a.Header, a.Footer = b.Header, b.Footer
	case 2:
		a.ReplyTo, a.Private, a.Preview = b.ReplyTo, b.Private, b.Preview
	case 3:
		if a.Text != "" && b.Text != "" {
			a.Text = b.Text
		}
	case 4:
		a.Bulk, a.HumanAgent = b.Bulk, b.HumanAgent
	default:
		b.QuickReplies, b.Header, b.Footer, b.ReplyTo, b.Private = a.QuickReplies, a.Header, a.Footer, a.ReplyTo, a.Private
		b.Preview, b.Bulk, b.HumanAgent = a.Preview, a.Bulk, a.HumanAgent
		return b
	}
	return a
}

func show(t *rapid.T, s parley.Send) string {
	lines := flowtest.SendLines(&s)
	for i, line := range lines {
		if goesOn := strings.HasPrefix(line, "    "); goesOn != (i > 0) || strings.ContainsAny(line, "\n\r") || i == 0 && !strings.HasPrefix(line, "bot") {
			t.Fatalf("line %d: %q", i+1, line)
		}
	}
	return strings.Join(lines, "\n")
}

func kept(t *rapid.T, s parley.Send) string {
	b, err := parley.EncodeSend(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// send draws messages that differ in little, of all contents; a payload is none or not
// the title.
func send(t *rapid.T) parley.Send {
	text := rapid.SampledFrom([]string{"a", "b", "a [b]", "a <b>", "a\nb", "a\n    b", "a ", `"a"`, "a\n[b]", "header: a", "a\nlist"})
	word := rapid.SampledFrom([]string{"a", "b", "a=b", "a]", "a b", "https://a.example"})
	maybe := rapid.SampledFrom([]string{"", "", "p", "p q", `"p"`, "]"})
	flag := rapid.IntRange(0, 5)
	s := parley.Send{
		Header: maybe.Draw(t, "header"), Footer: maybe.Draw(t, "footer"), ReplyTo: maybe.Draw(t, "reply to"),
		HumanAgent: flag.Draw(t, "human") == 0, Bulk: flag.Draw(t, "bulk") == 0, Preview: flag.Draw(t, "preview") == 0,
	}
	if flag.Draw(t, "private") == 0 {
		s.Private = &parley.PrivateReply{Comment: maybe.Draw(t, "comment"), Post: maybe.Draw(t, "post")}
		if (s.Private.Comment == "") == (s.Private.Post == "") {
			s.Private = nil
		}
	}
	content(t, &s, text, word, maybe)
	for range rapid.IntRange(0, 2).Draw(t, "replies") {
		s.QuickReplies = append(s.QuickReplies, parley.QuickReply{Title: word.Draw(t, "title"), Payload: maybe.Draw(t, "payload")})
	}
	return s
}

func content(t *rapid.T, s *parley.Send, text, word, maybe *rapid.Generator[string]) {
	buttons := func() (all []parley.Button) {
		for range rapid.IntRange(0, 2).Draw(t, "buttons") {
			b := parley.Button{Title: word.Draw(t, "title"), Payload: maybe.Draw(t, "payload")}
			if b.Payload == "" {
				b.URL = maybe.Draw(t, "url")
			}
			all = append(all, b)
		}
		return all
	}
	switch rapid.IntRange(0, 9).Draw(t, "content") {
	case 0, 1:
		s.Text = text.Draw(t, "text")
	case 2:
		s.Text, s.Buttons = text.Draw(t, "text"), buttons()
	case 3:
		row := parley.ListRow{Title: word.Draw(t, "title"), Payload: maybe.Draw(t, "payload"), Description: maybe.Draw(t, "description")}
		section := parley.ListSection{Title: maybe.Draw(t, "section"), Rows: []parley.ListRow{row}}
		s.Text, s.List = text.Draw(t, "text"), &parley.List{Button: maybe.Draw(t, "button"), Sections: []parley.ListSection{section}}
	case 4:
		s.Media = &parley.Media{Kind: parley.Document, URL: word.Draw(t, "url"), Caption: maybe.Draw(t, "caption"), Name: maybe.Draw(t, "name")}
	case 5:
		c := parley.Card{Title: word.Draw(t, "title"), Subtitle: maybe.Draw(t, "subtitle"), ImageURL: maybe.Draw(t, "image"), URL: maybe.Draw(t, "url"), Buttons: buttons()}
		s.Cards = []parley.Card{c}
	case 6:
		s.Location = &parley.Location{Latitude: 1, Name: maybe.Draw(t, "name"), Address: maybe.Draw(t, "address")}
	case 7:
		p := parley.Parameter{Text: maybe.Draw(t, "text"), Name: maybe.Draw(t, "name")}
		c := parley.Component{Type: word.Draw(t, "type"), Parameters: []parley.Parameter{p}}
		s.Template = &parley.Template{Name: word.Draw(t, "name"), Language: "de", Category: parley.Utility, Components: []parley.Component{c}}
	case 8:
		s.Reaction = &parley.Reaction{MessageID: word.Draw(t, "message"), Emoji: word.Draw(t, "emoji"), Name: maybe.Draw(t, "name")}
	default:
		s.Signal = &parley.Signal{Kind: parley.Typing, MessageID: maybe.Draw(t, "message")}
	}
}
