package flowtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

// What was played is made a transcript again of its history alone, and then the same
// comes of it.
func TestFromHistory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path string
		bot  parley.Bot
		kind parley.ChannelKind
	}{
		{"shop/order.txt", shop(), parley.WhatsApp},
		{"sends.txt", parrot(), parley.WhatsApp},
		{"said.txt", parrot(), parley.Messenger},
		{"time.txt", parrot(), parley.WhatsApp},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("testdata", c.path))
			if err != nil {
				t.Fatal(err)
			}
			first := flowtest.New(t, c.bot)
			first.Lines(string(text))
			anna := first.User("anna")
			script, err := flowtest.FromHistory("again.txt", "anna", c.kind, anna.History())
			if err != nil {
				t.Fatal(err)
			}
			second := flowtest.New(t, c.bot)
			second.Lines(script.String())
			if d := cmp.Diff(anna.Sent(), second.User("anna").Sent()); d != "" {
				t.Errorf("sent (-first +second): %s\n%s", d, second.Transcript())
			}
			if d := cmp.Diff(left(anna.Snapshot()), left(second.User("anna").Snapshot())); d != "" {
				t.Errorf("left (-first +second): %s\n%s", d, second.Transcript())
			}
		})
	}
}

func TestFromHistoryRefuses(t *testing.T) {
	t.Parallel()
	for _, record := range []string{`{`, `{"turn":[{"in":{"kind":"of tomorrow"}}]}`} {
		_, err := flowtest.FromHistory("x.txt", "anna", parley.WhatsApp, [][]byte{[]byte(record)})
		says(t, err, "read a record of the history")
	}
	ids := `{"at":"2026-03-02T09:00:00.5Z","turn":[{"in":{"kind":"message","input":{"id":"wamid.1","text":"a"}}},{"not":"repeated"},` +
		`{"in":{"kind":"deleted","input":{"id":"wamid.1"}}}]}`
	script, err := flowtest.FromHistory("x.txt", "anna", parley.WhatsApp, [][]byte{[]byte(ids)})
	want := "platform whatsapp\nat 2026-03-02 09:00:00.5\nanna: a\nanna deletes m1\n"
	if err != nil || script.String() != want {
		t.Errorf("%v\n%v", script, err)
	}
	if _, err = flowtest.FromHistory("x.txt", "wait", parley.WhatsApp, [][]byte{[]byte(ids)}); err == nil || !strings.Contains(err.Error(), "wait") {
		t.Errorf("a user who can't be called so: %v", err)
	}
}
