package flowtest_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

// FuzzFromHistory makes a transcript of any records, one in a line. What comes of it is a
// transcript that is read as it is written, and played to an end; or an error.
func FuzzFromHistory(f *testing.F) {
	talk := flowtest.New(f, parrot())
	talk.Lines("anna: hi\nanna edits m1: ho\nwait 25h\nanna presses \"yes\" [yes]\nanna reacts 👍 to m1")
	f.Add(bytes.Join(talk.User("anna").History(), []byte("\n")), "anna")
	for _, records := range []string{
		`{"at":"2026-03-02T09:00:00.5Z","turn":[{"in":{"kind":"message","input":{"id":"wamid.1","text":"a"}}},{"not":"repeated"},{"in":{"kind":"deleted","input":{"id":"wamid.1"}}}]}`,
		`{"at":"9999-12-31T23:59:59Z","turn":[{"in":{"kind":"message","input":{"text":"a\nb\n  | c"}}}]}` + "\n" + `{"at":"0001-01-01T00:00:00Z","turn":[{"in":{"kind":"timer_fired","input":{"name":"x"}}}]}`,
		`{"turn":[{"in":{"kind":"send_failed","input":{"provider_id":"b7","code":-5,"reason":"no\nway"}}},{"in":{"kind":"called","input":{"service":"a b","status":200,"body":"e30="}}}]}`,
		`{"at":"2026-03-02T09:00:00Z","turn":[{"in":{"kind":"echo","input":{"text":"anna: no"}}},{"in":{"kind":"notice","input":{"field":"x","raw":{"a":[1]}}}}]}`,
		`{"turn":[{"in":{"kind":"reaction","input":{"message_id":"m1 x","emoji":" "}}}]}`, `{`, ``, `null`,
	} {
		f.Add([]byte(records), "anna")
	}
	f.Add([]byte(`{}`), "wait")
	f.Fuzz(func(t *testing.T, records []byte, user string) {
		script, err := flowtest.FromHistory("x.txt", user, parley.WhatsApp, bytes.Split(records, []byte("\n")))
		if err != nil {
			return
		}
		again, err := flowtest.Parse("x.txt", script.String())
		if err != nil || again.String() != script.String() {
			t.Fatalf("written as %q, which is read as %v, %v", script, again, err)
		}
		if told, made := inputsOf(records), strings.Count(script.String(), "\n"); told > made {
			t.Errorf("%d inputs became %d lines: %q", told, made, script)
		}
		kit := flowtest.Kit{Bot: parrot()}
		_, _ = kit.Play(script) // whatever comes of it, it ends
	})
}

// inputsOf counts what somebody said in records.
func inputsOf(records []byte) (n int) {
	for data := range bytes.SplitSeq(records, []byte("\n")) {
		var r struct {
			Turn []struct {
				In struct{ Kind string } `json:"in"`
			} `json:"turn"`
		}
		if json.Unmarshal(data, &r) != nil {
			continue
		}
		for _, row := range r.Turn {
			if row.In.Kind == "message" {
				n++
			}
		}
	}
	return n
}

// FuzzInputLine: whatever a user does is told in lines by which the same happens again.
func FuzzInputLine(f *testing.F) {
	for _, in := range []parley.Input{
		parley.Message{Text: "a\n| b "},
		parley.Message{Text: "anna: x", Payload: "P"},
		parley.Postback{Title: "t]", Payload: "p\""},
		parley.Edited{ID: "m1", Text: "\\"},
		parley.Reaction{MessageID: "m1", Emoji: "👍"},
		parley.Deleted{ID: "m 1"},
		parley.Echo{Text: "\u2028"},
		parley.OptIn{Type: "x"},
	} {
		data, err := parley.EncodeInput(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parley.DecodeInput(data)
		if err != nil {
			return
		}
		lines, err := flowtest.InputLines("anna", in)
		if err != nil {
			return
		}
		text := "platform whatsapp\n" + strings.Join(lines, "\n") + "\n"
		script, err := flowtest.Parse("x.txt", text)
		if err != nil {
			t.Fatalf("%s is told as %q: %v", data, text, err)
		}
		if len(script.Steps) < 2 {
			t.Fatalf("%s is told as %q: %d steps", data, text, len(script.Steps))
		}
	})
}
