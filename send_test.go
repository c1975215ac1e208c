package parley_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// stored are sends as they are stored.
func stored() map[string]parley.Send {
	return map[string]parley.Send{
		`{"text":"hi"}`: {Text: "hi"},
		`{"text":"hi","quick_replies":[{"title":"yes","payload":""}]}`: {
			Text: "hi", QuickReplies: []parley.QuickReply{{Title: "yes"}},
		},
		`{"text":"hi","preview":true,"quick_replies":[{"title":"t","payload":"p"}],"header":"h","footer":"f","reply_to":"m","private":{"comment":"c"},"human_agent":true,"bulk":true}`: {
			Text: "hi", Preview: true, QuickReplies: []parley.QuickReply{{Title: "t", Payload: "p"}}, Header: "h", Footer: "f", ReplyTo: "m", Private: &parley.PrivateReply{Comment: "c"}, HumanAgent: true, Bulk: true,
		},
		`{"text":"hi","buttons":[{"title":"a","payload":"p"},{"title":"b","url":"u"}]}`: {
			Text: "hi", Buttons: []parley.Button{{Title: "a", Payload: "p"}, {Title: "b", URL: "u"}},
		},
		`{"text":"hi","list":{"button":"b","sections":[{"title":"s","rows":[{"title":"t","description":"d","payload":"p"}]}]}}`: {
			Text: "hi", List: &parley.List{Button: "b", Sections: []parley.ListSection{
				{Title: "s", Rows: []parley.ListRow{{Title: "t", Description: "d", Payload: "p"}}},
			}},
		},
		`{"text":"hi","flow":{"id":"1","token":"t","button":"b","screen":"s","data":{"a":1},"draft":true}}`: {
			Text: "hi", Flow: &parley.Flow{ID: "1", Token: "t", Button: "b", Screen: "s", Data: json.RawMessage(`{"a":1}`), Draft: true},
		},
		`{"text":"hi","ask_location":true}`: {Text: "hi", AskLocation: true},
		`{"media":{"kind":"document","url":"u","caption":"c","name":"n"}}`: {
			Media: &parley.Media{Kind: parley.Document, URL: "u", Caption: "c", Name: "n"},
		},
		`{"media":{"kind":"sticker","id":"1"}}`: {Media: &parley.Media{Kind: parley.Sticker, ID: "1"}},
		`{"cards":[{"title":"t","subtitle":"s","image_url":"i","url":"u","buttons":[{"title":"b"}]}]}`: {
			Cards: []parley.Card{{Title: "t", Subtitle: "s", ImageURL: "i", URL: "u", Buttons: []parley.Button{{Title: "b"}}}},
		},
		`{"location":{"latitude":1.5,"longitude":0,"name":"n","address":"a"}}`: {
			Location: &parley.Location{Latitude: 1.5, Name: "n", Address: "a"},
		},
		`{"template":{"name":"n","language":"de","category":"marketing","components":[{"type":"button","sub_type":"url","index":1,` +
			`"parameters":[{"name":"x","text":"t"},{"payload":"p"},{"code":"c"},{"media":{"kind":"image","id":"1"}}]},{"raw":{"type":"carousel"}}]}}`: {
			Template: &parley.Template{Name: "n", Language: "de", Category: parley.Marketing, Components: []parley.Component{
				{Type: "button", SubType: "url", Index: 1, Parameters: []parley.Parameter{
					{Name: "x", Text: "t"},
					{Payload: "p"},
					{Code: "c"},
					{Media: &parley.Media{Kind: parley.Image, ID: "1"}},
				}},
				{Raw: json.RawMessage(`{"type":"carousel"}`)},
			}},
		},
		`{"reaction":{"message_id":"m","emoji":"x"}}`:        {Reaction: &parley.Reaction{MessageID: "m", Emoji: "x"}},
		`{"signal":{"kind":"mark_read","message_id":"m"}}`:   {Signal: &parley.Signal{Kind: parley.MarkRead, MessageID: "m"}},
		`{"text":"hi","private":{"post":"p"}}`:               {Text: "hi", Private: &parley.PrivateReply{Post: "p"}},
		`{"signal":{"kind":"typing"}}`:                       {Signal: &parley.Signal{Kind: parley.Typing}},
		`{"reaction":{"message_id":"m","removed":true}}`:     {Reaction: &parley.Reaction{MessageID: "m", Removed: true}},
		`{"signal":{"kind":"pass_thread","app":"2639"}}`:     {Signal: &parley.Signal{Kind: parley.PassThread, App: "2639"}},
		`{"signal":{"kind":"take_thread"}}`:                  {Signal: &parley.Signal{Kind: parley.TakeThread}},
		`{"signal":{"kind":"typing_off","message_id":"m"}}`:  {Signal: &parley.Signal{Kind: parley.TypingOff, MessageID: "m"}},
		`{"media":{"kind":"image","id":"1"},"reply_to":"m"}`: {Media: &parley.Media{Kind: parley.Image, ID: "1"}, ReplyTo: "m"},
	}
}

// TestSendStoredForm: what an older version stored reads as it did, and each
// field is stored under its name.
func TestSendStoredForm(t *testing.T) {
	t.Parallel()
	for form, want := range stored() {
		if err := want.Validate(); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "encoded", form, string(data))
		var got parley.Send
		if err := json.Unmarshal([]byte(form), &got); err != nil {
			t.Fatal(err)
		}
		diff(t, "decoded", want, got)
	}
	var old parley.Send
	if err := json.Unmarshal([]byte(`{"text":"","quick_replies":null}`), &old); err != nil {
		t.Fatal(err)
	}
	diff(t, "an old, empty one", parley.Send{}, old)
}

// TestSendRoundTrip fills every field there is, also one that is added later.
func TestSendRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want, got parley.Send
		invent(t, reflect.ValueOf(&want).Elem())
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.Transformer("json", sameJSON)); d != "" {
			t.Fatalf("through %s (-want +got):\n%s", data, d)
		}
	})
}

// wrong are sends that no platform takes, and part of what is said of them.
func wrongSends() map[string]parley.Send {
	image, place := &parley.Media{Kind: parley.Image, ID: "1"}, &parley.Location{Latitude: 1}
	link := parley.Button{Title: "t", URL: "u"}
	media := func(m parley.Media) parley.Send { return parley.Send{Media: &m} }
	template := func(cs ...parley.Component) parley.Send {
		return parley.Send{Template: &parley.Template{Name: "n", Language: "de", Category: parley.Utility, Components: cs}}
	}
	parameter := func(p parley.Parameter) parley.Send {
		return template(parley.Component{Type: "body", Parameters: []parley.Parameter{p}})
	}
	at := func(latitude, longitude float64) parley.Send {
		return parley.Send{Location: &parley.Location{Latitude: latitude, Longitude: longitude}}
	}
	list := func(sections ...parley.ListSection) parley.Send {
		return parley.Send{Text: "x", List: &parley.List{Sections: sections}}
	}
	rows := []parley.ListRow{{Title: "t"}}
	replies := []parley.QuickReply{{Title: "t"}}
	return map[string]parley.Send{
		"empty text in send":                    {},
		"text and media:":                       {Text: "x", Media: image},
		"buttons and list and media:":           {Text: "x", Buttons: []parley.Button{link}, List: &parley.List{}, Media: image},
		"location and reaction and signal:":     {Location: place, Reaction: &parley.Reaction{}, Signal: &parley.Signal{}},
		"empty text in send of buttons":         {Buttons: []parley.Button{link}},
		"empty text in send of ask_location":    {AskLocation: true},
		"quick replies with list":               {Text: "x", List: &parley.List{Sections: []parley.ListSection{{Rows: rows}}}, QuickReplies: replies},
		"quick replies with signal":             {Signal: &parley.Signal{Kind: parley.Typing}, QuickReplies: replies},
		"header or footer with nothing":         {Text: "x", Header: "h"},
		"header or footer with media":           {Media: image, Footer: "f"},
		"signal as a reply":                     {Signal: &parley.Signal{Kind: parley.Typing}, ReplyTo: "m"},
		"reaction as a reply":                   {Reaction: &parley.Reaction{MessageID: "m", Emoji: "x"}, Private: &parley.PrivateReply{Post: "p"}},
		"want a comment or a post":              {Text: "x", Private: &parley.PrivateReply{}},
		"want a comment or a post ":             {Text: "x", Private: &parley.PrivateReply{Comment: "c", Post: "p"}},
		"URL and a payload":                     {Text: "x", Buttons: []parley.Button{{Title: "t", URL: "u", Payload: "p"}}},
		"button title of 0":                     {Text: "x", Buttons: []parley.Button{{URL: "u"}}},
		"list of 0 rows":                        list(),
		"list row title of 0":                   list(parley.ListSection{Rows: []parley.ListRow{{}}}),
		"section without a title":               list(parley.ListSection{Title: "a", Rows: rows}, parley.ListSection{Rows: rows}),
		"flow: data without":                    {Text: "x", Flow: &parley.Flow{ID: "1", Token: "t", Button: "b", Data: json.RawMessage(`{}`)}},
		"section without rows":                  list(parley.ListSection{Title: "a", Rows: rows}, parley.ListSection{Title: "b"}),
		"flow: want":                            {Text: "x", Flow: &parley.Flow{ID: "1", Token: "t"}},
		"no stored form":                        {Text: "x", Flow: &parley.Flow{ID: "1", Token: "t", Button: "b", Screen: "s", Data: json.RawMessage(`{`)}},
		"media of kind":                         media(parley.Media{ID: "1"}),
		"media: want a URL or an id":            media(parley.Media{Kind: parley.Image}),
		"media: want a URL or an id ":           media(parley.Media{Kind: parley.Image, ID: "1", URL: "u"}),
		"image with a name":                     media(parley.Media{Kind: parley.Image, ID: "1", Name: "n"}),
		"audio with a caption":                  media(parley.Media{Kind: parley.Audio, ID: "1", Caption: "c"}),
		"card without a title":                  {Cards: []parley.Card{{Subtitle: "s"}}},
		"card with nothing but":                 {Cards: []parley.Card{{Title: "t", URL: "u"}}},
		"button title of 0 ":                    {Cards: []parley.Card{{Title: "t", Buttons: []parley.Button{{}}}}},
		"location: latitude":                    at(90.1, 0),
		"location: latitude ":                   at(0, -180.1),
		"location: latitude or":                 at(math.NaN(), 0),
		"location: latitude or longitude":       at(0, math.Inf(1)),
		"template: want a name and a language":  {Template: &parley.Template{Name: "n", Category: parley.Utility}},
		"template of category":                  {Template: &parley.Template{Name: "n", Language: "de", Category: "urgent"}},
		"raw has other fields":                  template(parley.Component{Type: "body", Raw: json.RawMessage(`{}`)}),
		"template component: want":              template(parley.Component{}),
		"template parameter with 0":             parameter(parley.Parameter{Name: "n"}),
		"template parameter with 2":             parameter(parley.Parameter{Text: "t", Code: "c"}),
		"media: want a URL":                     parameter(parley.Parameter{Media: &parley.Media{Kind: parley.Image}}),
		"latitude or longitude out":             parameter(parley.Parameter{Location: &parley.Location{Latitude: 91}}),
		"reaction: want the id":                 {Reaction: &parley.Reaction{Emoji: "x"}},
		"reaction: want an emoji":               {Reaction: &parley.Reaction{MessageID: "m"}},
		"reaction: want an emoji or a name, or": {Reaction: &parley.Reaction{MessageID: "m", Emoji: "x", Removed: true}},
		"signal pass_thread: an app goes":       {Signal: &parley.Signal{Kind: parley.PassThread}},
		"MaxAppDigits":                          {Signal: &parley.Signal{Kind: parley.PassThread, App: strings.Repeat("1", parley.MaxAppDigits+1)}},
		`signal "shout"`:                        {Signal: &parley.Signal{Kind: "shout"}},
	}
}

// An app of Meta's is a number.
func TestValidApp(t *testing.T) {
	t.Parallel()
	for app, valid := range map[string]bool{"": false, "1": true, "1217981644879628": true, "inbox": false, "-1": false, strings.Repeat("1", parley.MaxAppDigits+1): false} {
		s := parley.Send{Signal: &parley.Signal{Kind: parley.PassThread, App: app}}
		if err := s.Validate(); parley.ValidApp(app) != valid || (err == nil) != valid {
			t.Errorf("app %q: %v", app, err)
		}
	}
	if s := (parley.Send{Signal: &parley.Signal{Kind: parley.TakeThread, App: "1"}}); s.Validate() == nil {
		t.Error("a thread is taken back from whoever has it")
	}
}

// TestSendsThatAreWrong: each fails the turn, by a word that names why.
func TestSendsThatAreWrong(t *testing.T) {
	t.Parallel()
	for why, s := range wrongSends() {
		c := parley.Step(&parley.Bot{Behavior: parley.BehaviorFunc(do(s))}, fresh(), said(1, "x"), drawn(1))
		got := causes(c)
		if len(got) != 1 || !strings.HasPrefix(got[0], "limit: ") || !strings.Contains(got[0]+" ", why) || len(c.Outbox) > 0 {
			t.Errorf("%+v: causes %q, want one with %q", s, got, why)
		}
	}
}

func sendLimits() []limit {
	buttons := func(n int) []parley.Button { return slices.Repeat([]parley.Button{{Title: "t"}}, n) }
	under := func(n int) parley.Effect { return parley.Send{Text: "x", Buttons: buttons(n)} }
	onCard := func(n int) parley.Effect {
		return parley.Send{Cards: []parley.Card{{Title: "t", Buttons: buttons(n)}}}
	}
	cards := func(n int) parley.Effect {
		return parley.Send{Cards: slices.Repeat([]parley.Card{{Title: "t", Subtitle: "s"}}, n)}
	}
	rows := func(n int) parley.Effect {
		r := slices.Repeat([]parley.ListRow{{Title: "t"}}, n-1)
		return parley.Send{Text: "x", List: &parley.List{Sections: []parley.ListSection{
			{Title: "a", Rows: r}, {Title: "b", Rows: r[:1]},
		}}}
	}
	whole := func(n int) parley.Effect {
		const around = `{"media":{"kind":"image","url":""}}`
		return parley.Send{Media: &parley.Media{Kind: parley.Image, URL: strings.Repeat("x", n-len(around))}}
	}
	caption := func(n int) parley.Effect {
		return parley.Send{Media: &parley.Media{Kind: parley.Image, ID: "1", Caption: strings.Repeat("x", n)}}
	}
	quoting := func(n int) parley.Effect { return parley.Send{Text: "x", ReplyTo: strings.Repeat("x", n)} }
	privately := func(n int) parley.Effect {
		return parley.Send{Text: "x", Private: &parley.PrivateReply{Comment: strings.Repeat("x", n)}}
	}
	return []limit{
		{"MaxLineBytes", do(quoting(parley.MaxLineBytes)), do(quoting(parley.MaxLineBytes + 1))},
		{"MaxLineBytes", do(privately(parley.MaxLineBytes)), do(privately(parley.MaxLineBytes + 1))},
		{"MaxButtons", do(under(parley.MaxButtons)), do(under(parley.MaxButtons + 1))},
		{"MaxButtons", do(onCard(parley.MaxButtons)), do(onCard(parley.MaxButtons + 1))},
		{"MaxCards", do(cards(parley.MaxCards)), do(cards(parley.MaxCards + 1))},
		{"MaxListRows", do(rows(parley.MaxListRows)), do(rows(parley.MaxListRows + 1))},
		{"MaxSendBytes", do(whole(parley.MaxSendBytes)), do(whole(parley.MaxSendBytes + 1))},
		{"MaxTextBytes", do(caption(parley.MaxTextBytes)), do(caption(parley.MaxTextBytes + 1))},
	}
}

func FuzzSendStoredForm(f *testing.F) {
	for _, s := range wrongSends() {
		if data, err := json.Marshal(s); err == nil {
			f.Add(data)
		}
	}
	for form := range stored() {
		f.Add([]byte(form))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s, back parley.Send
		if json.Unmarshal(data, &s) != nil || s.Validate() != nil {
			return
		}
		once, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("valid but not written: %v", err)
		}
		if err := json.Unmarshal(once, &back); err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		if err := back.Validate(); err != nil {
			t.Fatalf("valid before it was stored: %v", err)
		}
		twice, err := json.Marshal(back)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
	})
}
