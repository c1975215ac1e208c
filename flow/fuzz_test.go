package flow_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// Whatever is stored, and whatever is said: a turn ends with a state that the next one
// reads, or with an error that says what is wrong, never with a panic.
func FuzzStored(f *testing.F) {
	b := booking(fields(guests(), size().Anytime(), name(), note()), func(f *flow.Flow[table]) {
		f.Policy = flow.Collect(time.Second)
		f.Commands = []flow.Rule[table]{flow.On(flow.Text("later"), func(t *flow.Turn[table]) error {
			t.Follow(flow.Follow{Name: "x", Text: "later"})
			return nil
		})}
	})
	for _, state := range []string{
		``, `{}`, `null`, `{"guests":4}`, `{"$flow":{},"$state":{}}`, `{"$flow":null,"$state":null}`, `{"$flow":`,
		`{"$flow":{"form":{"form":"booking","field":"size","tries":2,"given":["note"]},"offered":"Small\nLarge\tL","number":true},"$state":{"guests":4}}`,
		`{"$flow":{"form":{"form":"gone","field":"gone"},"held":[{"kind":"message","input":{"text":"a"}}],"since":1,"until":"call"},"$state":{}}`,
		`{"$flow":{"held":[1,{}],"follows":[{"name":"x","text":"y"}]},"$state":{}}`,
	} {
		f.Add([]byte(state), "2", "", false)
		f.Add([]byte(state), "", "flow.held", true)
		f.Add([]byte(state), "change size", "flow.follow.x", false)
	}
	f.Fuzz(func(t *testing.T, state []byte, text, timer string, fires bool) {
		var in parley.Input = parley.Message{ID: "m", Text: text}
		if fires {
			in = parley.TimerFired{Name: timer, Retried: true}
		}
		c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: parley.PhoneKey + "49151"}
		s := parley.Snapshot{Conversation: c, State: state, Timers: []parley.Timer{{Name: "flow.held", Generation: 1}}}
		commit := turn(b, s, in)
		for _, d := range commit.Dead {
			if strings.HasPrefix(d.Cause, "panic") {
				t.Fatal(d.Cause)
			}
		}
		if len(commit.Dead) > 0 || bytes.Equal(commit.Next.State, state) {
			return // refused, or not met: the timer wasn't live
		}
		for _, d := range turn(b, commit.Next, parley.Reaction{}).Dead {
			t.Fatalf("what was stored isn't read again: %s: %q", d.Cause, commit.Next.State)
		}
	})
}

// What the quick reader of envelopes reads, and the quick writer writes, is what
// encoding/json does.
func FuzzEnvelope(f *testing.F) {
	quick := 0
	seeds := []string{
		`{"$flow":{"form":{"form":"booking","field":"note"}},"$state":{"guests":4}}`,
		`{"$flow":{"form":{"form":"booking"},"offered":"Small\nLarge\tL","number":true},"$state":{}}`,
		`{"$flow":{"form":{"form":"booking","field":"size","tries":2,"given":["note","size"]},"offered":"a"},"$state":null}`,
		`{"$flow":{"offered":"Small"},"$state":{"$state":1}}`,
		`{"$flow":{},"$state":{}}`, `{"$flow":{"offered":"Größe\nРазмер"},"$state":{}}`,
	}
	for _, s := range seeds {
		read, errRead := flow.Reopen([]byte(s))
		written, errWritten := flow.Reseal([]byte(s))
		if read && written && errRead == nil && errWritten == nil {
			quick++
		}
	}
	if quick != len(seeds) {
		f.Errorf("%d of %d are read and written quickly", quick, len(seeds))
	}
	for _, s := range append(seeds,
		`{"$flow":{"form":{"form":"a\\n"}},"$state":{}}`, `{"$flow":{"form":{"form":"\u0061"}},"$state":{}}`, `{"$flow":{"offered":"a\"b"},"$state":{}}`,
		`{"$flow":{"offered":"a<b"},"$state":{}}`, "{\"$flow\":{\"offered\":\"\u2028\"},\"$state\":{}}", "{\"$flow\":{\"offered\":\"\xff\"},\"$state\":{}}",
		`{"$flow":{"form":{"form":"a","tries":02}},"$state":{}}`, `{"$flow":{"form":{"form":"a","tries":}},"$state":{}}`,
		`{"$flow":{"offered":"a"},"$state":{},"$flow":{}}`, `{"$flow":{"offered":"a"},"$state":{}}}`, `{"$flow":{,"offered":"a"},"$state":{}}`,
		`{"$flow":{"offered":"a","held":[1]},"$state":{}}`, `{"$flow":{"offered":"a`,
	) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		if _, err := flow.Reopen(stored); err != nil {
			t.Error(err)
		}
		if _, err := flow.Reseal(stored); err != nil {
			t.Error(err)
		}
	})
}

func turn(b parley.Bot, s parley.Snapshot, in parley.Input) parley.Commit {
	seq := parley.Seq(s.Version.Number + 1)
	rows := []parley.Pending{{Row: parley.Row{Seq: seq, Token: 1}, Conversation: s.Conversation, Key: parley.EventKey{byte(seq)}, Received: time.Unix(1, 0), Input: in}}
	return parley.Step(&b, s, rows, parley.Circumstance{})
}

// A catalogue that is taken has a text for each key; one that isn't says why.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"a": "{n} {n|one|more} {{x}}"}`), 3)
	f.Add([]byte(`{"a": "}"}`), 0)
	f.Add([]byte(`{"a": "{|}"}`), -1)
	f.Add([]byte(`[]`), 1)
	f.Fuzz(func(t *testing.T, file []byte, n int) {
		m, err := flow.ReadMessages(fstest.MapFS{"en.json": {Data: file}})
		if err != nil {
			return
		}
		b := flow.Flow[memory]{Name: "x", Language: "en", Messages: m, Start: func(t *flow.Turn[memory]) error {
			for key := range m["en"] {
				t.Text(key, flow.Args{"n": n})
			}
			return nil
		}}
		if b.Check() != nil {
			return
		}
		for _, d := range meet(b.Bot(), parley.Message{}).Dead {
			if !strings.Contains(d.Cause, "no parameter") {
				t.Fatal(d.Cause)
			}
		}
	})
}

func FuzzFold(f *testing.F) {
	for _, text := range []string{"", "¡ADIÓS!", "?!", "İ ŉ ß", "\xff", "e\u0301"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		folded := flow.Fold(text)
		if again := flow.Fold(folded); again != folded {
			t.Errorf("Fold(%q) = %q, and of that %q", text, folded, again)
		}
		if len(folded) > 3*len(text) {
			t.Errorf("Fold(%q) = %q: more than three times as long", text, folded)
		}
	})
}
