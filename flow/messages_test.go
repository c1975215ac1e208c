package flow_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

func catalogue() flow.Messages {
	return flow.Messages{
		"en": {"hello": "Hello {name}!", "left": "{n} {n|pizza|pizzas} left {{x}}", "bye": "Bye", "size": "What size?", "again": "Pardon?"},
		"de": {"hello": "Hallo {name}!", "left": "Noch {n} {n|Pizza|Pizzen}", "size": "Welche Größe?", "again": "Wie bitte?"},
		"pl": {"left": "{n|pizza|pizze|pizz}: {n}"},
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	b := bot(flow.Flow[memory]{Messages: catalogue(), Language: "en", Start: flow.Match(
		flow.On(flow.Regexp(`^speak (.*)$`), func(t *flow.Turn[memory]) error {
			t.SetLanguage(t.Found(1))
			t.Say(t.Text("hello", flow.Args{"name": "Ann"}) + " " + t.Language())
			return nil
		}),
		flow.On(flow.Regexp(`^(\d+) left$`), func(t *flow.Turn[memory]) error {
			t.Say(t.Text("left", flow.Args{"n": len(t.Found(1))}))
			return nil
		}),
		flow.On(flow.Text("bye"), flow.Reply[memory]("bye")),
		flow.On(flow.Text("typo"), func(t *flow.Turn[memory]) error { t.Say(t.Text("helo")); return nil }),
		flow.On(flow.Text("nobody"), func(t *flow.Turn[memory]) error { t.Say(t.Text("hello")); return nil }),
		flow.On(flow.Text("some"), func(t *flow.Turn[memory]) error { t.Say(t.Text("left", flow.Args{"n": "x"})); return nil }),
		flow.On(flow.Text("end"), func(t *flow.Turn[memory]) error { t.End(); return nil }),
	)})
	play(t, b, `
		> speak en
		< Hello Ann! en
		> 1 left
		< 1 pizza left {x}
		> 11 left
		< 2 pizzas left {x}
		> speak de-AT
		< Hallo Ann! de
		> 1 left
		< Noch 1 Pizza
		> end
		> 1 left
		< Noch 1 Pizza
		> bye
		< Bye
		> speak pl_PL
		< Hello Ann! pl
		> 11 left
		< pizze: 2
		> 11111 left
		< pizz: 5
		> speak tlh
		< Hello Ann! en
		> typo
		x error: text "helo": not in the catalogue
		> nobody
		x error: text "hello": no parameter {name}
		> some
		x error: text "left": parameter {n} has forms, and is string: want a whole number`)
}

// The flow's own words are translated, too, and what forms ask.
func TestMessagesOfForms(t *testing.T) {
	t.Parallel()
	size := flow.Ask("size", "size", func(m *memory) *string { return &m.Name }, flow.Line(9))
	b := bot(flow.Flow[memory]{
		Messages: flow.Messages{"de": catalogue()["de"]}, Language: "de", Phrases: flow.Phrases{Again: "again", Cancel: []string{"abbrechen"}, Cancelled: "{schade}"},
		Start: flow.Fill[memory]("f"), Forms: []flow.Form[memory]{{Name: "f", Fields: []flow.Field[memory]{size}, Done: says("ok")}},
	})
	p := newPlayer(t, b, parley.WhatsApp)
	p.plays("> hi\n< Welche Größe?")
	p.plays("> a long answer\n< That is too long: at most 9 characters, please. / Welche Größe?")
	p.out.Reset()
	p.happens(parley.Message{})
	if got := p.out.String(); got != "< Wie bitte? / Welche Größe?\n" {
		t.Error(got)
	}
	p.plays("> abbrechen\n< {schade}")
}

func TestMessagesAreChecked(t *testing.T) {
	t.Parallel()
	if d := cmp.Diff([]string{"de: bye", "pl: again", "pl: bye", "pl: hello", "pl: size"}, catalogue().Missing()); d != "" {
		t.Errorf("Missing (-want +got):\n%s", d)
	}
	for text, says := range map[string]string{
		"{":             "other half",
		"}":             "other half",
		"{}":            "want the name",
		"{a b}":         "want the name",
		"{n|one}":       "1 forms; the language has 2",
		"{n|one|two|3}": "3 forms; the language has 2",
		"{other}":       "a parameter {other} that en has not",
		strings.Repeat("x", flow.MaxTemplateBytes+1): "MaxTemplateBytes",
	} {
		f := flow.Flow[memory]{Name: "x", Start: echo, Language: "en", Messages: flow.Messages{"en": {"k": "{n}"}, "de": {"k": text}}}
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), "messages: de: k: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: %v, want %q", text, err, says)
		}
	}
	f := flow.Flow[memory]{Name: "x", Start: echo, Language: "en", Messages: flow.Messages{"en": {}, "de": {"k": "x"}}}
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "k is not in the flow's own language en") {
		t.Error(err)
	}
}

func TestReadMessages(t *testing.T) {
	t.Parallel()
	m, err := flow.ReadMessages(fstest.MapFS{"en.json": {Data: []byte(`{"a": "b"}`)}, "README": {Data: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(flow.Messages{"en": {"a": "b"}}, m); d != "" {
		t.Error(d)
	}
	for name, data := range map[string]string{"decode": `{"a": 1}`, "MaxCatalogueBytes": strings.Repeat(" ", flow.MaxCatalogueBytes+1)} {
		if _, err := flow.ReadMessages(fstest.MapFS{"en.json": {Data: []byte(data)}}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each language has a form for every number, and uses all of its forms.
func TestPlurals(t *testing.T) {
	t.Parallel()
	for language := range strings.FieldsSeq("en de fr pt-BR es ru uk be pl cs sk sr hr bs lt lv ro sl ar he ja zh ko vi th id ms is mk hi tr xx") {
		n := len(flow.Plurals(language))
		forms := make([]string, n)
		for i := range forms {
			forms[i] = string(rune('a' + i))
		}
		f := bot(flow.Flow[memory]{
			Language: language, Messages: flow.Messages{language: {"k": "{n|" + strings.Join(forms, "|") + "}"}},
			Start: func(t *flow.Turn[memory]) error {
				var b strings.Builder
				for i := -1; i < 130; i++ {
					b.WriteString(t.Text("k", flow.Args{"n": i}))
				}
				t.Say(b.String())
				return nil
			},
		})
		c := meet(f, parley.Message{})
		if len(c.Outbox) != 1 {
			t.Fatalf("%s: %+v", language, c.Dead)
		}
		for _, form := range forms {
			if !strings.Contains(c.Outbox[0].Send.Text, form) {
				t.Errorf("%s never uses form %s", language, form)
			}
		}
	}
	for _, c := range []struct {
		language, text, want string
	}{
		{"ru", "{n|file|filea|files}", "files file filea filea filea files files files files files files files files files files files files files files files files file filea"},
		{"fr", "{n|a|b}", "a a b b b b b b b b b b b b b b b b b b b b b"},
		{"ar", "{n|z|o|t|f|m|x}", "z o t f f f f f f f f m m m m m m m m m m m m"},
	} {
		f := bot(flow.Flow[memory]{Language: c.language, Messages: flow.Messages{c.language: {"k": c.text}}, Start: func(t *flow.Turn[memory]) error {
			var words []string
			for i := range 23 {
				words = append(words, t.Text("k", flow.Args{"n": i}))
			}
			t.Say(strings.Join(words, " "))
			return nil
		}})
		if got := meet(f, parley.Message{}).Outbox[0].Send.Text; got != c.want {
			t.Errorf("%s: %s, want %s", c.language, got, c.want)
		}
	}
}
