package history_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// written is a history of one conversation from a short form: one event in a line, as
// "post 1 say", "post 2 remind 500", "post 3 forget 2", "ack 1", "said 1 #1", "ring 2".
// Events are a second apart.
func written(tb testing.TB, script string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := history.NewWriter(&b, 0)
	w.Begin(history.Header{Start: time.Unix(1_800_000_000, 0)})
	for i, line := range strings.Split(strings.TrimSpace(script), "\n") {
		w.Add(event(tb, int64(i)*int64(time.Second), strings.Fields(line)))
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func event(tb testing.TB, at int64, words []string) history.Event {
	tb.Helper()
	e := history.Event{At: at, Kind: words[0]}
	number := func(i int) (n int64) {
		if i < len(words) {
			if _, err := fmt.Sscan(strings.TrimPrefix(words[i], "#"), &n); err != nil {
				tb.Fatalf("%q: %v", words, err)
			}
		}
		return n
	}
	switch e.Kind {
	case history.Lost, history.Spooled:
		e.From, e.Until = number(1)*int64(time.Second), number(2)*int64(time.Second)
		return e
	case history.Healed:
		e.Within = number(1) * int64(time.Second)
		return e
	case history.Said:
		e.N = uint32(number(2))
	case history.Post:
		e.Wants, e.Arg = words[2], uint32(number(3))
	case "last":
		e.Kind, e.Wants, e.Last = history.Post, history.Say, true
	}
	e.Conversation, e.Message = "messenger/page/user", uint32(number(1))
	return e
}

func check(t *testing.T, script string) history.Report {
	t.Helper()
	r, err := history.Check(t.Context(), bytes.NewReader(written(t, script)), history.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What some order of events explains is let pass.
func TestExplained(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"OneByOne":                "post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\nsaid 2 #2",
		"ReplyBeforeTheAck":       "post 1 say\nsaid 1 #1\npost 2 say\nack 1\nack 2\nsaid 2 #2",
		"TogetherInAnyOrder":      "post 1 say\npost 2 say\nack 2\nack 1\nsaid 2 #1\nsaid 1 #2",
		"SentAgain":               "post 1 say\nack 1\nsaid 1 #1\nsaid 1 #1",
		"NotYetAnswered":          "post 1 say\nack 1\npost 2 say\nack 2\nsaid 2 #2",
		"NeverAcknowledged":       "post 1 say\npost 2 say\nack 2\nsaid 2 #1",
		"UnacknowledgedHadEffect": "post 1 say\npost 2 say\nack 2\nsaid 2 #2",
		"PostedInVain":            "post 1 say\nunpost 1\npost 2 say\nack 2\nsaid 2 #1\npost 1 say\nack 1\nsaid 1 #2",
		"Ring":                    "post 1 remind 500\nack 1\nsaid 1 #1\nring 1",
		"Cancelled":               "post 1 remind 5000\nack 1\nsaid 1 #1\npost 2 forget 1\nack 2\nsaid 2 #2",
		"CancelledTooLate":        "post 1 remind 500\nack 1\nsaid 1 #1\npost 2 forget 1\nack 2\nring 1\nsaid 2 #2",
		"SpooledIsOvertaken":      "post 1 say\nack 1\npost 2 say\nack 2\nsaid 2 #1\nsaid 1 #2\nspooled 0 3",
		"LostWithTheStore":        "post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\nsaid 2 #2\nlost 3 6\npost 3 say\nack 3\nsaid 3 #2",
		"AnsweredAnewAfterALoss":  "post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\nsaid 2 #2\nlost 5 6\nsaid 2 #2",
		"LastAnswered":            "post 1 say\nack 1\nsaid 1 #1\nhealed 5\nlast 2\nack 2\nsaid 2 #2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := check(t, script); !r.Clean() || r.Conversations != 1 || !r.Whole {
				t.Errorf("not clean: %+v", r)
			}
		})
	}
}

// What no order explains is found, and told by the promise that it breaks.
func TestUnexplained(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ promise, script string }{
		"TwoTurnsFromOneState": {history.G4, "post 1 say\npost 2 say\nack 1\nack 2\nsaid 1 #1\nsaid 2 #1"},
		"AStaleStateLoaded":    {history.G4, "post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\nsaid 2 #2\npost 3 say\nack 3\nsaid 3 #2"},
		"AnEventForgotten":     {history.G1, "post 1 say\nack 1\npost 2 say\nack 2\nsaid 2 #1"},
		"LostOneOfSeveral":     {history.G1, "post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\npost 3 say\npost 4 say\nack 3\nack 4\nsaid 3 #2\nsaid 4 #3"},
		"Swapped":              {history.G3, "post 1 say\nack 1\npost 2 say\nack 2\nsaid 2 #1\nsaid 1 #2"},
		"CountedTwice":         {history.G2, "post 1 say\nack 1\nsaid 1 #2"},
		"AnsweredTwice":        {history.G2, "post 1 say\nack 1\nsaid 1 #1\nsaid 1 #2"},
		"RepliesOutOfOrder":    {history.G5, "post 1 say\npost 2 say\nack 1\nack 2\nsaid 2 #2\nsaid 1 #1"},
		"AReplyToNothing":      {history.G5, "post 1 say\nack 1\nsaid 1 #1\nsaid 2 #2"},
		"RangAfterCancel":      {history.G6, "post 1 remind 5000\nack 1\nsaid 1 #1\npost 2 forget 1\nack 2\nsaid 2 #2\nring 1"},
		"RangEarly":            {history.G6, "post 1 remind 5000\nack 1\nsaid 1 #1\nring 1"},
		"RangUnasked":          {history.G6, "post 1 say\nack 1\nsaid 1 #1\nring 1"},
		"NotSpooledForLong":    {history.G3, "post 1 say\nack 1\npost 2 say\nack 2\nsaid 2 #1\nsaid 1 #2\nspooled 2 9"},
		"MoreThanTheStoreLost": {history.G4, "post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\nsaid 2 #2\nlost 6 7\npost 3 say\nack 3\nsaid 3 #2"},
		"SilentAtTheEnd":       {history.G9, "post 1 say\nack 1\nsaid 1 #1\nhealed 5\nlast 2\nack 2"},
		"LateAtTheEnd":         {history.G9, "post 1 say\nack 1\nsaid 1 #1\nhealed 1\nlast 2\nack 2\nsaid 2 #2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := check(t, row.script)
			if r.Clean() || r.Broken != 1 || r.ByPromise[row.promise] != 1 || len(r.Findings) == 0 || r.Findings[0].Conversation != "messenger/page/user" {
				t.Errorf("want %s broken by one conversation: %+v", row.promise, r)
			}
		})
	}
}

// long is a conversation of many messages, of which some are under way at once; plant
// changes the number in a reply.
func long(messages int, plant func(k int) int) string {
	var b strings.Builder
	for k := 1; k <= messages; k += 2 {
		_, _ = fmt.Fprintf(&b, "post %d say\npost %d say\nack %d\nack %d\nsaid %d #%d\nsaid %d #%d\n", k, k+1, k+1, k, k, plant(k), k+1, plant(k+1))
	}
	return b.String()
}

// A conversation of more operations than one search takes is cut, and a bug is found in
// whichever piece it is.
func TestLongConversation(t *testing.T) {
	t.Parallel()
	const messages = 2*history.OperationsMax + 6
	if r := check(t, long(messages, func(k int) int { return k })); !r.Clean() || r.Operations != messages || r.Overlapping != 1 {
		t.Errorf("not clean: %+v", r)
	}
	stale := long(messages, func(k int) int {
		if k > messages-10 {
			return k - 1
		}
		return k
	})
	if r := check(t, stale); r.Broken != 1 || r.ByPromise[history.G4] != 1 {
		t.Errorf("a state that was loaded stale is overlooked: %+v", r)
	}
}

// What can't be decided is said, and isn't clean.
func TestUndecided(t *testing.T) {
	t.Parallel()
	r, err := history.Check(t.Context(), bytes.NewReader(written(t, long(20, func(k int) int { return k }))), history.Options{Total: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Clean() || r.Undecided != 1 || r.Broken != 0 || len(r.UndecidedOnes) != 1 {
		t.Errorf("want one undecided conversation when there is no time: %+v", r)
	}
}

// A record that is full says so, and what it has is checked.
func TestFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "past.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := history.NewWriter(f, 1<<12)
	w.Begin(history.Header{})
	for i, line := range strings.Split(strings.TrimSpace(long(1000, func(k int) int { return k })), "\n") {
		w.Add(event(t, int64(i), strings.Fields(line)))
	}
	if err := w.Close(); err != nil || w.Dropped() == 0 {
		t.Fatalf("dropped %d: %v", w.Dropped(), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := history.CheckFile(t.Context(), path, history.Options{})
	if err != nil || !r.Clean() || r.Whole || r.Operations == 0 {
		t.Errorf("want a clean beginning: %+v, %v", r, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<14 {
		t.Errorf("the file has no bound: %v %v", info.Size(), err)
	}
}

// What isn't a history is refused, with the line.
func TestRefused(t *testing.T) {
	t.Parallel()
	head := `{"history":1,"start":"2026-01-01T00:00:00Z"}` + "\n"
	for name, text := range map[string]string{
		"Empty":        "",
		"NoHeader":     `{"e":"post"}`,
		"Newer":        `{"history":2}`,
		"NoJSON":       head + "post 1",
		"UnknownKind":  head + `{"e":"swim"}`,
		"Nobody":       head + `{"e":"ack","k":1}`,
		"AckOfNothing": head + `{"e":"ack","c":"a","k":1}`,
		"PostedTwice":  head + `{"e":"post","c":"a","k":1,"do":"say"}` + "\n" + `{"e":"post","c":"a","k":1,"do":"say"}`,
		"UnknownWish":  head + `{"e":"post","c":"a","k":1,"do":"sing"}`,
	} {
		if _, err := history.Check(t.Context(), strings.NewReader(text), history.Options{}); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Count(text, "\n") > 0 && !strings.Contains(err.Error(), "line") {
			t.Errorf("%s: no line is named: %v", name, err)
		}
	}
}
