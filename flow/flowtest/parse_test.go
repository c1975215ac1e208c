package flowtest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"# fine\nbot: hi", `x.txt:2: "bot" before anything happened`},
		{"    bot: hi", "x.txt:1: begins with a space"},
		{"anna: hi\n# x\n    | more", "x.txt:3: begins with a space"},
		{"anna: hi\n\nanna:", "x.txt:3: says nothing"},
		{"anna hi", `x.txt:1: anna "hi": want a colon`},
		{"anna", `anna "": want a colon`},
		{"4nna: hi", "want the name of a user"},
		{"wait for it", `time "for it": want something like`},
		{"wait 99999 weeks", "MaxWait"},
		{"wait", `time ""`},
		{"at noon", `time "noon": want`},
		{"release two", `release "two": want a number`},
		{"platform telegram", "want messenger, instagram or whatsapp"},
		{"platform messenger\n    | x", "has one line"},
		{`anna: "open`, `no end of what begins with "`},
		{`anna: "a" b`, `"b" is too much`},
		{"anna: hi\n    bye", `"bye": want "| more text"`},
		{"anna: hi\n    reply to\n", `want "| more text"`},
		{"anna: [A", "want [Title] alone"},
		{"anna: [A] please", "want [Title] alone"},
		{"anna: []", "choice without a title"},
		{"anna sends", `sends "": want "location"`},
		{"anna sends location here", "want a place like"},
		{"anna sends location 91,0", "want a place like"},
		{"anna sends location 1,2 a b c", `"c" is too much`},
		{"anna sends image id:", "id: without an id"},
		{"anna reacts", "reacts with nothing"},
		{"anna reacts x at m1", `want "to"`},
		{"anna stops talking", `want "stops marketing"`},
		{"anna event message", "want JSON"},
		{"anna event none {}", "newer format"},
		{"anna event message []", "decode message"},
		{"anna misses it", "want Meta's code"},
		{"anna deletes m1 m2", `"m2" is too much`},
		{"anna deletes m1\n    | x", "has one line"},
		{"llm answers fine", `answer "fine": want a status`},
		{"llm answers 20", "want 100 to 599"},
		{"llm fails badly", `failure "badly": want one of`},
		{"call llm", "want JSON"},
		{"call llm {} 200", `want "->"`},
		{"call wait -> 200", "no word of transcripts"},
		{"person hi", `want "person: …"`},
		{"anna: hi\nstate {", "want JSON"},
		{"anna: hi\nstate\nbot: x", "nothing happens because of it"},
		{strings.Repeat("#\n", flowtest.MaxTranscriptBytes/2) + "#", "MaxTranscriptBytes"},
	} {
		_, err := flowtest.Parse("x.txt", c.text)
		says(t, err, c.want)
	}
}

// What is read is written as it was, whoever wrote it.
func TestParseKeeps(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, string(text)).String(); got != string(text) {
			t.Errorf("%s: %s", path, cmp.Diff(string(text), got))
		}
	}
	text := "wait 3 weeks 2 days\nanna: a\n\t|b\n \nbot: x\n  | y\r\nanna: b  \nstate   { \"a\" : 1 }\n"
	want := "wait 3 weeks 2 days\nanna: a\n    |b\nbot: x\n    | y\n\nanna: b\nstate {\"a\":1}\n"
	if got := parse(t, strings.Replace(text, "\n \n", "\n", 1)).String(); got != strings.Replace(want, "\n\n", "\n", 1) {
		t.Errorf("got %q", got)
	}
}

// Each input has a line, from which it is read back.
func TestInputLines(t *testing.T) {
	t.Parallel()
	for _, text := range awkward() {
		for _, in := range []parley.Input{
			parley.Message{Text: text},
			parley.Echo{Text: text},
			parley.Edited{ID: "m1", Text: text},
			parley.Postback{Payload: text, Title: text},
			parley.Message{Attachments: []parley.Attachment{{Type: "image", URL: text, Caption: text}}},
			parley.Referred{Referral: parley.Referral{Ref: text}},
		} {
			readBack(t, in)
		}
	}
	rapid.Check(t, func(t *rapid.T) { readBack(t, input(t)) })
}

func readBack(t rapid.TB, in parley.Input) {
	t.Helper()
	lines, err := flowtest.InputLines("anna", in)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	script, err := flowtest.Parse("x.txt", "anna: begin\n"+text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if got := script.String(); got != "anna: begin\n"+text+"\n" {
		t.Fatalf("%q is written as %q", text, got)
	}
	var heard []parley.Input
	kit := flowtest.Kit{Bot: botOf(func(t *parley.Turn) {
		if _, first := t.Input().(parley.Message); first && len(heard) == 0 {
			offer(t, in)
		}
		heard = append(heard, t.Input())
	})}
	if _, err := kit.Play(script); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if d := cmp.Diff(stored(t, in), stored(t, withoutID(in, heard[1]))); d != "" {
		t.Fatalf("%q: %s", text, d)
	}
}

// offer lets a message with a payload choose something.
func offer(t *parley.Turn, in parley.Input) {
	if m, ok := in.(parley.Message); ok && m.Payload != "" && m.Text != "" {
		t.Say("choose", parley.QuickReply{Title: m.Text, Payload: m.Payload})
	}
}

// stored is what is left of an input in its stored form.
func stored(t rapid.TB, in parley.Input) string {
	t.Helper()
	b, err := parley.EncodeInput(in)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withoutID is what was heard, without the id that the kit gave to what had none.
func withoutID(in, heard parley.Input) parley.Input {
	switch h := heard.(type) {
	case parley.Message:
		if m, ok := in.(parley.Message); ok {
			h.ID = m.ID
		}
		return h
	case parley.Postback:
		if m, ok := in.(parley.Postback); ok {
			h.ID = m.ID
		}
		return h
	case parley.Echo:
		if m, ok := in.(parley.Echo); ok {
			h.ID = m.ID
		}
		return h
	default:
		return heard
	}
}

// awkward are texts that could be taken for something else.
func awkward() []string {
	return []string{
		"", "hi", "a b", "[A]", `"q"`, " a", "b ", "a\nb", "a\n\n b", "\n", "| x", "# c", "bot: x", "👩‍👩‍👧 ❤", "a=b", "=", "to m1",
		"id:7", "https://example.com/a?b=c", "a: b", "\t", "\u00a0", "-> 200", "{}", "<a>", "<a", "x\r", "[A]\nreply to b1", "reply to b1",
	}
}

func words() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom(awkward()), rapid.StringN(0, 8, 40))
}

func name() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"m1", "b2", "wamid.abc==", "a b", "a:b", `"`}), rapid.StringN(1, 8, 20))
}

// input draws inputs of those kinds that have a form of their own, and others.
func input(t *rapid.T) parley.Input {
	w := words()
	text := func(label string) string { return strings.ToValidUTF8(w.Draw(t, label), "") }
	id := func() string { return strings.ToValidUTF8(name().Draw(t, "id"), "x") }
	switch rapid.IntRange(0, 14).Draw(t, "kind") {
	case 0:
		return parley.Message{Text: text("text")}
	case 1:
		return parley.Message{Text: text("text"), ReplyTo: &parley.ReplyTo{MessageID: id()}}
	case 2:
		title := id()
		if len(title) > parley.MaxNameBytes {
			title = "x"
		}
		return parley.Message{Text: title, Payload: id()}
	case 3:
		a := parley.Attachment{Type: rapid.SampledFrom([]string{"image", "a b", "location", ""}).Draw(t, "type"), URL: text("url"), ID: text("id"), Caption: text("caption")}
		return parley.Message{Attachments: []parley.Attachment{a}}
	case 4:
		l := parley.Location{Latitude: rapid.Float64Range(-91, 91).Draw(t, "lat"), Longitude: rapid.Float64Range(-180, 180).Draw(t, "long"), Name: text("name"), Address: text("address")}
		return parley.Message{Location: &l}
	case 5:
		return parley.Postback{Payload: text("payload"), Title: text("title")}
	case 6:
		return parley.Reaction{MessageID: id(), Emoji: text("emoji"), Removed: rapid.Bool().Draw(t, "removed")}
	case 7:
		return parley.Edited{ID: id(), Text: text("text"), Edits: rapid.IntRange(0, 1).Draw(t, "edits")}
	case 8:
		return parley.Deleted{ID: id()}
	case 9:
		return parley.Referred{Referral: parley.Referral{Ref: text("ref"), Source: rapid.SampledFrom([]string{"", "ADS"}).Draw(t, "source")}}
	case 10:
		return parley.Preference{Category: "marketing_messages", Value: rapid.SampledFrom([]string{"stop", "resume", "x"}).Draw(t, "value")}
	case 11:
		return parley.Echo{Text: text("text"), Phone: rapid.Bool().Draw(t, "phone")}
	case 12:
		return parley.Comment{Field: "feed", ID: id(), Text: text("text"), Raw: json.RawMessage(`{"a":[1,"x"]}`)}
	case 13:
		return parley.Message{Text: text("text"), Referral: &parley.Referral{Ref: text("ref")}, Extra: json.RawMessage(`{"a":1}`)}
	default:
		return parley.Notice{Field: text("field"), Raw: json.RawMessage(`null`)}
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, s := range parse(f, string(text)).Steps { // small ones: they are made smaller for long otherwise
			f.Add((&flowtest.Transcript{Steps: []flowtest.Step{s}}).String())
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		script, err := flowtest.Parse("x.txt", text)
		if err != nil {
			return
		}
		written := script.String()
		again, err := flowtest.Parse("x.txt", written)
		if err != nil {
			t.Fatalf("%q was read, and written as %q: %v", text, written, err)
		}
		if got := again.String(); got != written {
			t.Fatalf("%q was written as %q, and that as %q", text, written, got)
		}
		kit := flowtest.Kit{Bot: parrot()}
		_, _ = kit.Play(script) // whatever comes of it, it ends
	})
}
