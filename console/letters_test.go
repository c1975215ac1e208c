package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

// secretText stands in the data of letters, and is shown to who asks for one letter.
const secretText = "zanzibar"

// archive is dead letters that are what a test says.
type archive struct {
	letters []parley.DeadLetter
	err     error
	asked   parley.DeadQuery
	did     []string
}

func (a *archive) DeadLetters(_ context.Context, q parley.DeadQuery) (found []parley.DeadLetter, _ error) {
	a.asked = q
	for i := range a.letters {
		if d := &a.letters[i]; q.Means(d) && q.Behind(d) {
			found = append(found, *d)
		}
	}
	slices.SortFunc(found, func(a, b parley.DeadLetter) int { return q.Order(&a, &b) })
	return found[:min(len(found), q.Page())], a.err
}

func (a *archive) take(did string, id parley.ID) (parley.DeadLetter, error) {
	i := slices.IndexFunc(a.letters, func(d parley.DeadLetter) bool { return d.ID == id })
	switch {
	case a.err != nil:
		return parley.DeadLetter{}, a.err
	case i < 0:
		return parley.DeadLetter{}, fmt.Errorf("%s dead letter: %w", did, parley.ErrNoLetter)
	}
	gone := a.letters[i]
	a.letters = slices.Delete(slices.Clone(a.letters), i, i+1)
	a.did = append(a.did, did+" "+gone.Cause)
	return gone, nil
}

func (a *archive) Retry(_ context.Context, id parley.ID) (parley.DeadLetter, error) {
	return a.take("retry", id)
}

func (a *archive) Drop(_ context.Context, id parley.ID) (parley.DeadLetter, error) {
	return a.take("drop", id)
}

// The operator of the other tests has no letters.

func (o *operator) DeadLetters(ctx context.Context, _ parley.DeadQuery) ([]parley.DeadLetter, error) {
	return nil, o.answer(ctx)
}

func (o *operator) Retry(ctx context.Context, _ parley.ID) (parley.DeadLetter, error) {
	return parley.DeadLetter{}, o.answer(ctx)
}

func (o *operator) Drop(ctx context.Context, _ parley.ID) (parley.DeadLetter, error) {
	return parley.DeadLetter{}, o.answer(ctx)
}

func letterID(n byte) parley.ID { return parley.NewID(time.UnixMilli(1764123456789), [16]byte{15: n}) }

func deceased() *archive {
	at := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	a := &archive{}
	for i, cause := range []string{"panic: one", "no such person (code 551)", "error: three"} {
		c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "1101"}, Contact: parley.Contact(fmt.Sprint("user:", i))}
		d := parley.DeadLetter{
			ID: letterID(byte(i + 1)), Conversation: c, At: at.Add(time.Duration(i) * time.Second), Cause: cause, Seq: parley.Seq(70 + i),
			Data: []byte(`{"kind":"message","input":{"text":"` + secretText + `"}}`),
		}
		if i == 1 {
			d.Seq, d.Data = 0, []byte(`{"effect":"send","value":{"text":"`+secretText+`"}}`)
		}
		a.letters = append(a.letters, d)
	}
	return a
}

func TestLetters(t *testing.T) {
	t.Parallel()
	of := func(n byte) string { return "/api/deadletters/" + letterID(n).String() }
	for name, row := range map[string]struct {
		method, path string
		letters      *archive
		status       int
	}{
		"letters":           {"GET", "/api/deadletters", deceased(), 200},
		"letters-none":      {"GET", "/api/deadletters", &archive{}, 200},
		"letters-page":      {"GET", "/api/deadletters?limit=1&order=oldest", deceased(), 200},
		"letters-next":      {"GET", "/api/deadletters?limit=2&cursor=1795680002000." + letterID(3).String(), deceased(), 200},
		"letters-filter":    {"GET", "/api/deadletters?brand=acme&channel=acme/messenger/1101&kind=message&cause=%28code+551%29&until=2026-11-26T08:00:01Z", deceased(), 200},
		"letter":            {"GET", of(1), deceased(), 200},
		"letter-message":    {"GET", of(2), deceased(), 200},
		"letter-none":       {"GET", of(9), deceased(), 404},
		"letter-retry":      {"POST", of(2) + "/retry", deceased(), 200},
		"letter-retry-none": {"POST", of(9) + "/retry", deceased(), 404},
		"letter-retry-full": {"POST", of(1) + "/retry", &archive{err: fmt.Errorf("retry dead letter: %w", parley.ErrFull)}, 503},
		"letter-retry-new":  {"POST", of(1) + "/retry", &archive{err: fmt.Errorf("retry dead letter: %w", parley.ErrFormat)}, 409},
		"letter-retry-old":  {"POST", of(1) + "/retry", &archive{err: fmt.Errorf("retry dead letter: it takes format 2, members read up to 1: %w", parley.ErrAhead)}, 409},
		"letter-retry-busy": {"POST", of(1) + "/retry", &archive{err: fmt.Errorf("retry dead letter: %w", parley.ErrConflict)}, 409},
		"letter-drop-none":  {"DELETE", of(9), deceased(), 404},
		"letter-no-id":      {"GET", "/api/deadletters/17", deceased(), 422},
		"letters-channel":   {"GET", "/api/deadletters?channel=acme/1101", deceased(), 422},
		"letters-cursor":    {"GET", "/api/deadletters?cursor=x", deceased(), 422},
		"letters-cursor-id": {"GET", "/api/deadletters?cursor=1.x", deceased(), 422},
		"letters-limit":     {"GET", "/api/deadletters?limit=501", deceased(), 422},
		"letters-kind":      {"GET", "/api/deadletters?kind=letter", deceased(), 422},
		"letters-error":     {"GET", "/api/deadletters", &archive{err: errors.New("look: it is dark")}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handler(t, console.Config{Token: token, Operator: two(), Letters: row.letters, Conversations: two()})
			w := send(t, h, row.method, row.path, "")
			if w.Code != row.status {
				t.Errorf("status %d, want %d", w.Code, row.status)
			}
			golden(t, name+".json", indented(t, w.Body.Bytes()))
			if shown := strings.Contains(w.Body.String(), secretText); shown != (name == "letter" || name == "letter-message") {
				t.Errorf("what is in the letter is shown: %v", shown)
			}
		})
	}
}

// The pages together are all letters, each once.
func TestLettersPageByPage(t *testing.T) {
	t.Parallel()
	h := handler(t, console.Config{Token: token, Operator: two(), Letters: deceased(), Conversations: two()})
	for _, order := range []string{"newest", "oldest"} {
		var got []string
		for next, pages := "", 0; ; pages++ {
			w := send(t, h, "GET", "/api/deadletters?limit=1&order="+order+"&cursor="+next, "")
			var page struct {
				DeadLetters []struct{ Cause string } `json:"dead_letters"`
				Next        string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || len(page.DeadLetters) != 1 || pages > 3 {
				t.Fatalf("page %d: %v: %s", pages, err, w.Body)
			}
			got = append(got, page.DeadLetters[0].Cause)
			if next = page.Next; next == "" {
				break
			}
		}
		want := []string{"panic: one", "no such person (code 551)", "error: three"}
		if order == "newest" {
			slices.Reverse(want)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", order, d)
		}
	}
}

// What an operator does is logged with who and which, and not what was in it.
func TestLettersAreLogged(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	a := deceased()
	h := handler(t, console.Config{Token: token, Operator: two(), Letters: a, Conversations: two(), Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	do := func(method, path, by string, want int) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/api/deadletters/"+path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if by != "" {
			r.Header.Set("X-Operator", by)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s %s: %d: %s", method, path, w.Code, w.Body)
		}
	}
	do("POST", letterID(1).String()+"/retry", "cli ada", http.StatusOK)
	do("DELETE", letterID(2).String(), "", http.StatusNoContent)
	do("DELETE", letterID(2).String(), "", http.StatusNotFound)
	do("DELETE", letterID(3).String(), strings.Repeat("x", 65), http.StatusUnprocessableEntity)
	if d := cmp.Diff([]string{"retry panic: one", "drop no such person (code 551)"}, a.did); d != "" {
		t.Error(d)
	}
	for _, words := range []string{
		`msg="dead letter retried" by="cli ada" id=` + letterID(1).String() + " kind=event channel=acme/messenger/1101",
		`msg="dead letter dropped" by="admin token" id=` + letterID(2).String() + " kind=message",
	} {
		if !strings.Contains(logged.String(), words) {
			t.Errorf("%q is not in the log:\n%s", words, &logged)
		}
	}
	if n := strings.Count(logged.String(), "\n"); n != 2 || strings.Contains(logged.String(), secretText) || strings.Contains(logged.String(), "panic") {
		t.Errorf("log:\n%s", &logged)
	}
}
