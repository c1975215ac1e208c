package console_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

// books is an account that is what a test says.
type books struct {
	account  parley.Account
	since    time.Duration
	reopened bool
	err      error
}

func (b *books) Account(_ context.Context, since time.Duration) (parley.Account, error) {
	b.since = since
	return b.account, b.err
}

func (b *books) Reopen(context.Context) (parley.Account, error) {
	b.reopened = true
	return b.account, b.err
}

func TestAudit(t *testing.T) {
	t.Parallel()
	account := parley.Account{At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Brands: []parley.BrandAudit{{Brand: "acme"}}, Lost: []parley.LostEvent{}, Silent: []string{}}
	account.Whole.Missing = 1
	for name, row := range map[string]struct {
		method, path string
		err          error
		status       int
		want         string
		since        time.Duration
		reopened     bool
	}{
		"all":         {method: http.MethodGet, path: "", status: 200, want: `"missing":1`},
		"the hour":    {method: http.MethodGet, path: "?since_seconds=3600", status: 200, want: `"brand":"acme"`, since: time.Hour},
		"too long":    {method: http.MethodGet, path: "?since_seconds=172801", status: 422, want: "since_seconds"},
		"no store":    {method: http.MethodGet, path: "", err: parley.ErrUnavailable, status: 503},
		"reopen":      {method: http.MethodPost, path: "/reopen", status: 200, want: `"missing":1`, reopened: true},
		"at the time": {method: http.MethodPost, path: "/reopen", err: parley.ErrConflict, status: 409, reopened: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &books{account: account, err: row.err}
			var logged bytes.Buffer
			h := handler(t, console.Config{Token: token, Operator: two(), Letters: two(), Conversations: two(), Audit: b, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			r := httptest.NewRequestWithContext(t.Context(), row.method, "/api/audit"+row.path, http.NoBody)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.want) {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
			if b.since != row.since || b.reopened != row.reopened {
				t.Errorf("asked for the last %v, reopened %v", b.since, b.reopened)
			}
			if told := strings.Contains(logged.String(), "books reopened"); told != (row.reopened && row.err == nil) {
				t.Errorf("the log: %s", logged.String())
			}
		})
	}
}
