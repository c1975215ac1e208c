package history_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// FuzzCheck: whatever a record says, its check comes to an end, says the same once more,
// and keeps its own books: who is broken has a finding, and a record that is refused
// names the line.
func FuzzCheck(f *testing.F) {
	for _, script := range []string{
		"post 1 say\nack 1\nsaid 1 #1\npost 2 say\nack 2\nsaid 2 #2",
		"post 1 say\npost 2 say\nack 2\nack 1\nsaid 2 #1\nsaid 1 #2",
		"post 1 remind 500\nack 1\nsaid 1 #1\nring 1\npost 2 forget 1\nsaid 2 #2",
		"post 1 say\nack 1\nspooled 0 9\nlost 0 1\npost 2 say\nsaid 2 #1",
		"post 1 say\nack 1\nunpost 1\npost 1 say\nsaid 1 #1",
		"healed 5\nlast 1\nsaid 1 #3",
		"post 1 say\nack 1\npost 2 say\nsaid 2 #1\nsaid 1 #2",
	} {
		f.Add(written(f, script))
	}
	f.Add([]byte(`{"history":1,"start":"2026-01-01T00:00:00Z"}` + "\n" + `{"t":-1,"e":"post","c":"x","k":4294967295,"do":"remind","arg":4294967295}`))
	f.Add([]byte(`{"history":2}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > 2000 || bytes.Count(file, []byte("\n")) > 25 {
			return // searches take exponential time, which Within bounds: TestSearchesEnd
		}
		o := history.Options{Within: 200 * time.Millisecond, Total: time.Second}
		r, err := history.Check(t.Context(), bytes.NewReader(file), o)
		again, errAgain := history.Check(t.Context(), bytes.NewReader(file), o)
		if err != nil {
			if errAgain == nil || err.Error() != errAgain.Error() || len(err.Error()) > 600 {
				t.Errorf("error %v, and then %v", err, errAgain)
			}
			return
		}
		if errAgain != nil || r.Undecided == again.Undecided && (r.Broken != again.Broken || r.Operations != again.Operations) {
			t.Errorf("%+v, and then %+v, %v", r, again, errAgain)
		}
		if (r.Broken > 0) != (len(r.Findings) > 0) || r.Broken > r.Conversations || r.Undecided > r.Conversations || r.Clean() != (r.Broken+r.Undecided == 0) {
			t.Errorf("%+v", r)
		}
	})
}
