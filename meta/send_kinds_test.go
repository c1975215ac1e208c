package meta_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

var platforms = []parley.ChannelKind{parley.Messenger, parley.Instagram, parley.WhatsApp}

// kinds is a message of every kind.
func kinds() map[string]parley.Send {
	rows := func(titles ...string) []parley.ListRow {
		var out []parley.ListRow
		for _, t := range titles {
			out = append(out, parley.ListRow{Title: t, Description: "about " + t, Payload: "p-" + t})
		}
		return out
	}
	template := func(c parley.Category, components ...parley.Component) parley.Send {
		return parley.Send{Template: &parley.Template{Name: "order_sent", Language: "en_US", Category: c, Components: components}}
	}
	image := &parley.Media{Kind: parley.Image, URL: "https://shop.example/a.png"}
	return map[string]parley.Send{
		"text":                 {Text: "hé<i>"},
		"text, preview":        {Text: "see https://shop.example", Preview: true},
		"text, quick replies":  {Text: "Which?", QuickReplies: replies(2)},
		"text, framed replies": {Text: "Which?", Header: "Sizes", Footer: "All in stock", QuickReplies: replies(3)},
		"text, many replies":   {Text: "Which?", QuickReplies: replies(5)},
		"text, quoting":        {Text: "That one", ReplyTo: "mid.1"},
		"text, bulk":           {Text: "News", Bulk: true},
		"text, by a person":    {Text: "Hello, Ann here", HumanAgent: true},
		"private, comment":     {Text: "Thanks!", Private: &parley.PrivateReply{Comment: "12_34"}},
		"private, post":        {Text: "Thanks!", Private: &parley.PrivateReply{Post: "12"}},
		"buttons":              {Text: "Which?", Buttons: []parley.Button{{Title: "Red", Payload: "R"}, {Title: "Blue"}}},
		"buttons, link":        {Text: "Our shop", Footer: "Open until 6", Buttons: []parley.Button{{Title: "Visit", URL: "https://shop.example"}}},
		"buttons, mixed":       {Text: "Which?", Buttons: []parley.Button{{Title: "Red"}, {Title: "Visit", URL: "https://shop.example"}}},
		"buttons, alike":       {Text: "Which?", Buttons: []parley.Button{{Title: "Red", Payload: "1"}, {Title: "Red", Payload: "2"}}},
		"list": {Text: "Menu of today", Header: "Trattoria", List: &parley.List{Button: "Dishes", Sections: []parley.ListSection{
			{Title: "Pizza", Rows: rows("Diavola", "Funghi")}, {Title: "Pasta", Rows: rows("Penne")},
		}}},
		"list, bare":       {Text: "Menu", List: &parley.List{Sections: []parley.ListSection{{Rows: []parley.ListRow{{Title: "Penne"}}}}}},
		"flow":             {Text: "Book a table", Flow: &parley.Flow{ID: "9", Token: "t", Button: "Book"}},
		"flow, screen":     {Text: "Book a table", Flow: &parley.Flow{ID: "9", Token: "t", Button: "Book", Screen: "WHEN", Data: json.RawMessage(`{"seats":[2,4]}`), Draft: true}},
		"ask for location": {Text: "Where to?", AskLocation: true},
		"image":            {Media: image},
		"image, replies":   {Media: image, QuickReplies: replies(1)},
		"image, uploaded":  {Media: &parley.Media{Kind: parley.Image, ID: "4711"}, ReplyTo: "mid.1"},
		"image, caption":   {Media: &parley.Media{Kind: parley.Image, ID: "4711", Caption: "Ours"}},
		"audio":            {Media: &parley.Media{Kind: parley.Audio, URL: "https://shop.example/a.mp3"}},
		"video":            {Media: &parley.Media{Kind: parley.Video, URL: "https://shop.example/a.mp4"}},
		"document":         {Media: &parley.Media{Kind: parley.Document, URL: "https://shop.example/a.pdf", Name: "menu.pdf"}},
		"sticker":          {Media: &parley.Media{Kind: parley.Sticker, ID: "4711"}},
		"cards": {Cards: []parley.Card{
			{Title: "Red", Subtitle: "10 left", ImageURL: "https://shop.example/r.png", URL: "https://shop.example/r", Buttons: []parley.Button{{Title: "Buy", Payload: "R"}, {Title: "Look", URL: "https://shop.example/r"}}},
			{Title: "Blue", Subtitle: "none left"},
		}},
		"location":            {Location: &parley.Location{Latitude: 52.5, Longitude: -13.4, Name: "Shop", Address: "Main Street 1"}},
		"location, zero":      {Location: &parley.Location{}},
		"template":            template(parley.Marketing),
		"template, utility":   template(parley.Utility, parley.Component{Type: "body", Parameters: []parley.Parameter{{Name: "who", Text: "Ann"}}}),
		"template, its parts": template(parley.Authentication, templateParts()...),
		"reaction":            {Reaction: &parley.Reaction{MessageID: "mid.1", Emoji: "\U0001f44d"}},
		"reaction, by name":   {Reaction: &parley.Reaction{MessageID: "mid.1", Name: "love"}},
		"reaction, removed":   {Reaction: &parley.Reaction{MessageID: "mid.1", Removed: true}},
		"mark read":           {Signal: &parley.Signal{Kind: parley.MarkRead, MessageID: "mid.1"}},
		"typing":              {Signal: &parley.Signal{Kind: parley.Typing, MessageID: "mid.1"}},
		"typing, of nothing":  {Signal: &parley.Signal{Kind: parley.Typing}},
		"typing, no more":     {Signal: &parley.Signal{Kind: parley.TypingOff}},
		"thread, passed":      {Signal: &parley.Signal{Kind: parley.PassThread, App: "263902037430900"}},
		"thread, taken":       {Signal: &parley.Signal{Kind: parley.TakeThread}},
	}
}

func templateParts() []parley.Component {
	return []parley.Component{
		{Type: "header", Parameters: []parley.Parameter{{Media: &parley.Media{Kind: parley.Document, ID: "5", Name: "bill.pdf"}}}},
		{Type: "header", Parameters: []parley.Parameter{{Location: &parley.Location{Latitude: 1, Longitude: 2}}}},
		{Type: "button", SubType: "quick_reply", Parameters: []parley.Parameter{{Payload: "yes"}}},
		{Type: "button", SubType: "copy_code", Index: 1, Parameters: []parley.Parameter{{Code: "SAVE"}}},
		{Raw: json.RawMessage(`{"type":"limited_time_offer","parameters":[]}`)},
	}
}

// TestEveryKind holds what each message becomes on each platform, a body or an
// error, to what was looked through once.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	all := kinds()
	for _, kind := range platforms {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(all)) {
			s := all[name]
			if err := s.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			path, body, err := meta.EncodeSend(sending(t, kind, s), meta.Sending{})
			fmt.Fprintf(&b, "# %s\n", name)
			if err != nil {
				fmt.Fprintf(&b, "error: %v\n", err)
				continue
			}
			fmt.Fprintf(&b, "%s %s\n", path, body)
		}
		file := filepath.Join("testdata", "send_"+string(kind)+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
	}
}

// bounded is a limit, what it is, and a message that has n of it.
type bounded struct {
	limit string
	kind  parley.ChannelKind
	max   int
	make  func(n int) parley.Send
}

func kindLimits() []bounded {
	long := func(n int) string { return strings.Repeat("é", n) }
	button := func(b parley.Button) parley.Send { return parley.Send{Text: "x", Buttons: []parley.Button{b}} }
	card := func(c parley.Card) parley.Send { return parley.Send{Cards: []parley.Card{c}} }
	row := func(r parley.ListRow) parley.Send {
		return parley.Send{Text: "x", List: &parley.List{Sections: []parley.ListSection{{Rows: []parley.ListRow{r}}}}}
	}
	frame := func(header, footer string) parley.Send {
		return parley.Send{Text: "x", Header: header, Footer: footer, QuickReplies: replies(1)}
	}
	manyCards := func(n int) parley.Send {
		return parley.Send{Cards: slices.Repeat([]parley.Card{{Title: "t", Subtitle: "s"}}, n)}
	}
	flow := func(n int) parley.Send {
		return parley.Send{Text: "x", Flow: &parley.Flow{ID: "1", Token: "t", Button: long(n)}}
	}
	caption := func(n int) parley.Send {
		return parley.Send{Media: &parley.Media{Kind: parley.Video, ID: "1", Caption: long(n)}}
	}
	return []bounded{
		{"MaxMessengerButtonText", parley.Messenger, 640, func(n int) parley.Send { return parley.Send{Text: long(n), Buttons: buttons(1)} }},
		{"MaxMessengerButtonText", parley.Instagram, 640, func(n int) parley.Send { return parley.Send{Text: strings.Repeat("x", n), Buttons: buttons(1)} }},
		{"MaxInstagramText", parley.Instagram, 1000, func(n int) parley.Send {
			return parley.Send{Text: strings.Repeat("é", 400) + strings.Repeat("x", n-800), Buttons: buttons(1)}
		}},
		{"MaxMessengerButtons", parley.Messenger, 3, func(n int) parley.Send { return parley.Send{Text: "x", Buttons: buttons(n)} }},
		{"MaxMessengerButtons", parley.Instagram, 3, func(n int) parley.Send { return card(parley.Card{Title: "t", Buttons: buttons(n)}) }},
		{"MaxMessengerTitle", parley.Messenger, 20, func(n int) parley.Send { return button(parley.Button{Title: long(n), URL: "https://a.example"}) }},
		{"MaxMessengerTitle", parley.Instagram, 20, func(n int) parley.Send { return button(parley.Button{Title: long(n), Payload: "p"}) }},
		{"MaxMessengerPayload", parley.Messenger, 1000, func(n int) parley.Send { return button(parley.Button{Title: "t", Payload: long(n)}) }},
		{"MaxMessengerCards", parley.Messenger, 10, manyCards},
		{"MaxMessengerCards", parley.Instagram, 10, manyCards},
		{"MaxMessengerCardText", parley.Messenger, 80, func(n int) parley.Send { return card(parley.Card{Title: long(n), Subtitle: "s"}) }},
		{"MaxMessengerCardText", parley.Instagram, 80, func(n int) parley.Send { return card(parley.Card{Title: "t", Subtitle: long(n)}) }},
		{"MaxWhatsAppButtonBody", parley.WhatsApp, 1024, func(n int) parley.Send { return parley.Send{Text: long(n), AskLocation: true} }},
		{"MaxWhatsAppButtonBody", parley.WhatsApp, 1024, func(n int) parley.Send {
			return parley.Send{Text: long(n), Flow: &parley.Flow{ID: "1", Token: "t", Button: "b"}}
		}},
		{"MaxWhatsAppButtons", parley.WhatsApp, 3, func(n int) parley.Send { return parley.Send{Text: "x", Buttons: buttons(n)} }},
		{"MaxWhatsAppButton", parley.WhatsApp, 20, func(n int) parley.Send { return button(parley.Button{Title: long(n), URL: "https://a.example"}) }},
		{"MaxWhatsAppButtonID", parley.WhatsApp, 256, func(n int) parley.Send { return button(parley.Button{Title: "t", Payload: long(n)}) }},
		{"MaxWhatsAppRows", parley.WhatsApp, 10, rowsInTwo},
		{"MaxWhatsAppRow", parley.WhatsApp, 24, func(n int) parley.Send { return row(parley.ListRow{Title: long(n), Payload: "p"}) }},
		{"MaxWhatsAppRowID", parley.WhatsApp, 200, func(n int) parley.Send { return row(parley.ListRow{Title: "t", Payload: long(n)}) }},
		{"MaxWhatsAppDescription", parley.WhatsApp, 72, func(n int) parley.Send { return row(parley.ListRow{Title: "t", Description: long(n)}) }},
		{"MaxWhatsAppSection", parley.WhatsApp, 24, func(n int) parley.Send {
			s := row(parley.ListRow{Title: "t"})
			s.List.Sections[0].Title = long(n)
			return s
		}},
		{"MaxWhatsAppListLabel", parley.WhatsApp, 20, func(n int) parley.Send {
			s := row(parley.ListRow{Title: "t"})
			s.List.Button = long(n)
			return s
		}},
		{"MaxWhatsAppListBody", parley.WhatsApp, 4096, func(n int) parley.Send {
			s := row(parley.ListRow{Title: "t"})
			s.Text = long(n)
			return s
		}},
		{"MaxWhatsAppHeader", parley.WhatsApp, 60, func(n int) parley.Send { return frame(long(n), "") }},
		{"MaxWhatsAppFooter", parley.WhatsApp, 60, func(n int) parley.Send { return frame("", long(n)) }},
		{"MaxWhatsAppFlowLabel", parley.WhatsApp, 30, flow},
		{"MaxWhatsAppCaption", parley.WhatsApp, 1024, caption},
	}
}

func buttons(n int) []parley.Button {
	var out []parley.Button
	for i := range n {
		out = append(out, parley.Button{Title: fmt.Sprintf("T%d", i)})
	}
	return out
}

// rowsInTwo is a list of n rows in two sections.
func rowsInTwo(n int) parley.Send {
	rows := slices.Repeat([]parley.ListRow{{Title: "t"}}, n)
	return parley.Send{Text: "x", List: &parley.List{Sections: []parley.ListSection{
		{Title: "a", Rows: rows[:n/2]}, {Title: "b", Rows: rows[n/2:]},
	}}}
}

// TestKindLimits sends at each limit and one beyond it. At the limit the
// simulated Meta, which has the limits from Meta's pages too, takes it.
func TestKindLimits(t *testing.T) {
	t.Parallel()
	g := newSimulated(t)
	for i, b := range kindLimits() {
		name := fmt.Sprintf("%d, %s on %s", i, b.limit, b.kind)
		at := g.to(b.kind, b.make(b.max))
		if path, body, err := meta.EncodeSend(at, meta.Sending{}); err != nil {
			t.Errorf("%s: at the limit: %v", name, err)
		} else if answer := g.answer(b.kind, path, body); answer != "" {
			t.Errorf("%s: at the limit: %s", name, answer)
		}
		_, _, err := meta.EncodeSend(sending(t, b.kind, b.make(b.max+1)), meta.Sending{})
		var over *meta.LimitError
		if !errors.As(err, &over) || over.Limit != b.limit || over.Max != b.max || over.Have != b.max+1 || meta.ClassOf(err) != meta.ClassPermanent {
			t.Errorf("%s: one beyond: %v", name, err)
		}
	}
}

// TestMetaTakesEveryKind sends every kind to the simulated Meta.
func TestMetaTakesEveryKind(t *testing.T) {
	t.Parallel()
	g := newSimulated(t)
	taken := 0
	for name, s := range kinds() {
		for _, kind := range platforms {
			path, body, err := meta.EncodeSend(g.to(kind, s), meta.Sending{})
			var none *meta.UnsupportedError
			if err != nil {
				if !errors.As(err, &none) || none.Kind != kind || meta.ClassOf(err) != meta.ClassPermanent {
					t.Errorf("%s on %s: %v", name, kind, err)
				}
				continue
			}
			taken++
			// The thread is the bot's, whatever came before.
			g.answer(kind, filepath.Dir(path)+"/take_thread_control", body)
			answer := g.answer(kind, path, body)
			if s.Private != nil && strings.Contains(answer, "No matching user") { // nobody comments there
				continue
			}
			if answer != "" {
				t.Errorf("%s on %s: %s to %s", name, kind, answer, body)
			}
		}
	}
	if taken < 70 {
		t.Errorf("only %d were sent", taken)
	}
}

// TestMetaTakesWhatIsEncoded draws messages around the limits: what EncodeSend
// lets pass, the simulated Meta takes.
func TestMetaTakesWhatIsEncoded(t *testing.T) {
	t.Parallel()
	g := newSimulated(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSend(t)
		if err := s.Validate(); err != nil {
			return
		}
		kind := rapid.SampledFrom(platforms).Draw(t, "platform")
		path, body, err := meta.EncodeSend(g.to(kind, s), meta.Sending{})
		if err != nil {
			return
		}
		if answer := g.answer(kind, path, body); answer != "" {
			t.Fatalf("%s: %s to %s", kind, answer, body)
		}
	})
}

// drawSend draws a message with something to choose, cards or media.
func drawSend(t *rapid.T) parley.Send {
	words := func(t *rapid.T, name string, lengths ...int) string {
		n := rapid.SampledFrom(lengths).Draw(t, name)
		return strings.Repeat("é", max(0, n-1)) + strings.Repeat("x", min(n, 1))
	}
	title := func(t *rapid.T) string {
		return words(t, "title", 1, 20, 21, 24, 25, 30, 31) + rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(t, "which")
	}
	choose := func(t *rapid.T) parley.Button {
		b := parley.Button{Title: title(t)}
		switch rapid.IntRange(0, 3).Draw(t, "sort") {
		case 0:
			b.URL = "https://shop.example"
		case 1:
			b.Payload = words(t, "payload", 1, 200, 201, 256, 257, 1000, 1001)
		}
		return b
	}
	some := func() []parley.Button {
		return rapid.SliceOfN(rapid.Custom(choose), 1, 4).Draw(t, "buttons")
	}
	s := parley.Send{Text: words(t, "text", 1, 500, 501, 640, 641, 1024, 1025, 2000, 2001, 4096, 4097)}
	if rapid.Bool().Draw(t, "framed") {
		s.Header, s.Footer = words(t, "header", 0, 60, 61), words(t, "footer", 0, 60, 61)
	}
	switch rapid.IntRange(0, 6).Draw(t, "content") {
	case 0:
		s.Buttons = some()
	case 1:
		for _, b := range some() {
			s.QuickReplies = append(s.QuickReplies, parley.QuickReply{Title: b.Title, Payload: b.Payload})
		}
	case 2:
		r := parley.ListRow{Title: title(t), Description: words(t, "description", 0, 72, 73)}
		s.List = &parley.List{Button: words(t, "label", 0, 20, 21), Sections: []parley.ListSection{{Title: words(t, "section", 0, 24, 25), Rows: []parley.ListRow{r}}}}
	case 3:
		s.Text = ""
		s.Cards = []parley.Card{{Title: words(t, "card", 1, 80, 81), Subtitle: words(t, "subtitle", 0, 80, 81), Buttons: some()}}
	case 4:
		s.Text = ""
		s.Media = &parley.Media{Kind: rapid.SampledFrom([]parley.MediaKind{parley.Image, parley.Document, parley.Sticker}).Draw(t, "kind"), ID: "1", Caption: words(t, "caption", 0, 1024, 1025)}
	case 5:
		s.Flow = &parley.Flow{ID: "1", Token: "t", Button: title(t)}
	}
	return s
}

// FuzzEncodeSend makes requests of whatever passes for a stored message.
func FuzzEncodeSend(f *testing.F) {
	for _, s := range kinds() {
		data, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s parley.Send
		if json.Unmarshal(data, &s) != nil || s.Validate() != nil {
			return
		}
		for _, kind := range platforms {
			path, body, err := meta.EncodeSend(sending(t, kind, s), meta.Sending{})
			at := "77/messages"
			if x := s.Signal; x != nil && x.OfThread() {
				at = "77/" + string(x.Kind) + "_control"
			}
			if err == nil && (path != at || !json.Valid(body)) {
				t.Errorf("%s: %s %s", kind, path, body)
			}
		}
	})
}
