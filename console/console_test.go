package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const token = "a-token-of-this-test"

// operator is a cluster that is what a test says.
type operator struct {
	members []console.Member
	status  console.Status
	place   console.Place
	err     error
	waits   bool // until the request's time is up
	panics  bool

	asked   parley.Conversation
	drained []string
}

func (o *operator) answer(ctx context.Context) error {
	if o.panics {
		panic("a bug")
	}
	if o.waits {
		<-ctx.Done()
		return fmt.Errorf("ask node2: %w", ctx.Err())
	}
	return o.err
}

func (o *operator) Members(ctx context.Context) ([]console.Member, error) {
	return o.members, o.answer(ctx)
}

func (o *operator) Status(ctx context.Context) (console.Status, error) {
	return o.status, o.answer(ctx)
}

func (o *operator) Where(ctx context.Context, c parley.Conversation) (console.Place, error) {
	o.asked = c
	p := o.place
	p.Conversation, p.Shard = c.String(), int(c.Shard())
	return p, o.answer(ctx)
}

func (o *operator) Drain(ctx context.Context, member string) error {
	o.drained = append(o.drained, member)
	return o.answer(ctx)
}

// two is a cluster of two members, one of which is about to leave.
func two() *operator {
	one := console.Member{Name: "node1-17", Address: "10.0.0.1:7947", Roles: []string{"ingress", "actors", "egress", "console"}, Version: "v1.2.0", Format: 3, Self: true}
	other := console.Member{Name: "node2-23", Address: "10.0.0.2:7947", Version: "v1.1.0", Format: 2, Draining: true, Bots: []console.BotVersion{{Name: "pizza", Version: 1}}}
	one.Bots = []console.BotVersion{{Name: "pizza", Version: 2}}
	live := true
	o := &operator{members: []console.Member{other, one}, place: console.Place{Owner: &one, Live: &live, ChannelShard: 77, Sender: &other}}
	o.status = console.Status{
		Node: one.Name, ViewsAgree: true,
		Backlog: console.BacklogOf(parley.Backlog{Pending: 3, Oldest: 1500 * time.Millisecond, Unsent: 4, Timers: 5, Receipts: 6, Quarantined: 7, Dead: 8, Calls: 9, OldestCall: 2500 * time.Millisecond}),
		Members: []console.MemberStatus{
			{Member: other},
			{Member: one, Answering: true, OwnedShards: 4096, HeldShards: 3000, HandoversUnderWay: 2, LiveConversations: 12000, HeldRows: 9, ActiveChannels: 10, ClockOffsetMS: -3, ViewAgrees: true},
		},
		Warnings: []console.Warning{{Kind: "own", Text: "The operator's own.", Remedy: "None."}},
	}
	o.status.Shards.Total = 4096
	return o
}

func handler(tb testing.TB, cfg console.Config) http.Handler {
	tb.Helper()
	if cfg.Audit == nil {
		cfg.Audit = &books{}
	}
	api, err := console.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return api.Handler()
}

// send sends a request with the token.
func send(t *testing.T, h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// golden holds text to a file.
func golden(t *testing.T, name string, text []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(text)); d != "" {
		t.Errorf("%s (-update rewrites it):\n%s", path, d)
	}
}

func indented(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return append(bytes.TrimSpace(out.Bytes()), '\n')
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		method, path, body string
		operator           *operator
		status             int
	}{
		"members":      {"GET", "/api/cluster/members", "", two(), 200},
		"members-none": {"GET", "/api/cluster/members", "", &operator{}, 200},
		"status":       {"GET", "/api/cluster/status", "", two(), 200},
		"status-empty": {"GET", "/api/cluster/status", "", &operator{}, 200},
		"where":        {"GET", "/api/cluster/where?conversation=acme/whatsapp/1/bsuid:a%2Fb", "", two(), 200},
		"where-nobody": {"GET", "/api/cluster/where?conversation=acme/messenger/1/user:2", "", &operator{}, 200},
		"drain":        {"POST", "/api/cluster/drain", `{"member": "node2-23"}`, two(), 202},
		"drain-self":   {"POST", "/api/cluster/drain", `{}`, two(), 202},

		"where-malformed":   {"GET", "/api/cluster/where?conversation=acme/telegram/1/user:2", "", two(), 422},
		"where-missing":     {"GET", "/api/cluster/where", "", two(), 422},
		"unknown-parameter": {"GET", "/api/cluster/members?role=actors", "", two(), 422},
		"drain-unknown-key": {"POST", "/api/cluster/drain", `{"node": "node2-23"}`, two(), 422},
		"drain-no-body":     {"POST", "/api/cluster/drain", "", two(), 400},
		"drain-no-json":     {"POST", "/api/cluster/drain", "node2-23", two(), 400},
		"drain-large":       {"POST", "/api/cluster/drain", `{"member": "` + strings.Repeat("x", 5000) + `"}`, two(), 413},
		"no-member":         {"POST", "/api/cluster/drain", `{"member": "x"}`, &operator{err: fmt.Errorf("drain x: %w", console.ErrNoMember)}, 404},
		"silent":            {"POST", "/api/cluster/drain", `{"member": "x"}`, &operator{err: fmt.Errorf("drain x: %w", console.ErrSilent)}, 502},
		"unavailable":       {"GET", "/api/cluster/status", "", &operator{err: fmt.Errorf("backlog: %w", parley.ErrUnavailable)}, 503},
		"late":              {"GET", "/api/cluster/where?conversation=acme/messenger/1/user:2", "", &operator{waits: true}, 503},
		"error":             {"GET", "/api/cluster/members", "", &operator{err: errors.New("look: it is dark")}, 500},
		"not-found":         {"GET", "/api/cluster/leave", "", two(), 404},
		"not-found-root":    {"GET", "/api/", "", two(), 404},
		"wrong-method":      {"GET", "/api/cluster/drain", "", two(), 405},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handler(t, console.Config{Token: token, Operator: row.operator, Letters: row.operator, Conversations: row.operator, Timeout: 50 * time.Millisecond})
			w := send(t, h, row.method, row.path, row.body)
			if w.Code != row.status {
				t.Errorf("status %d, want %d", w.Code, row.status)
			}
			want := "application/json"
			if row.status >= 400 {
				want = "application/problem+json"
			}
			if got := w.Header().Get("Content-Type"); got != want {
				t.Errorf("content type %q, want %q", got, want)
			}
			if w.Header().Get("Link") != "" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("header %v", w.Header())
			}
			golden(t, name+".json", indented(t, w.Body.Bytes()))
		})
	}
}

func TestOperatorIsAsked(t *testing.T) {
	t.Parallel()
	o := two()
	h := handler(t, console.Config{Token: token, Operator: o, Letters: o, Conversations: o})
	send(t, h, "GET", "/api/cluster/where?conversation=gr%C3%BCnkern/whatsapp/1/bsuid:a/b", "")
	want := parley.Conversation{Channel: parley.Channel{Brand: "grünkern", Kind: parley.WhatsApp, ID: "1"}, Contact: "bsuid:a/b"}
	if o.asked != want {
		t.Errorf("asked for %v, want %v", o.asked, want)
	}
	send(t, h, "POST", "/api/cluster/drain", `{"member":"node2-23"}`)
	send(t, h, "POST", "/api/cluster/drain", `{}`)
	send(t, h, "GET", "/api/cluster/drain", "")
	if d := cmp.Diff([]string{"node2-23", ""}, o.drained); d != "" {
		t.Error(d)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		token, header string
		status        int
		cause, says   string
	}{
		"Right":       {token, "Bearer " + token, 200, "", ""},
		"LowerCase":   {token, "bearer  " + token + " ", 200, "", ""},
		"Spaces":      {" " + token + "\n", "Bearer " + token, 200, "", ""},
		"OnlySpaces":  {" \n", "Bearer ", 401, "unset", "admin_token: env:PARLEY_ADMIN_TOKEN"},
		"Missing":     {token, "", 401, "missing", "Authorization: Bearer"},
		"Basic":       {token, "Basic YWRtaW46YWRtaW4=", 401, "missing", "Authorization: Bearer"},
		"BasicRight":  {token, "Basic " + token, 401, "missing", "Authorization: Bearer"},
		"Bare":        {token, token, 401, "missing", "Authorization: Bearer"},
		"Empty":       {token, "Bearer ", 401, "missing", "Authorization: Bearer"},
		"Wrong":       {token, "Bearer a-token-of-another-test", 401, "wrong", "not the token"},
		"Prefix":      {token, "Bearer " + token[:len(token)-1], 401, "wrong", "not the token"},
		"Longer":      {token, "Bearer " + token + "x", 401, "wrong", "not the token"},
		"OtherCase":   {token, "Bearer " + strings.ToUpper(token), 401, "wrong", "not the token"},
		"Unset":       {"", "Bearer ", 401, "unset", "admin_token: env:PARLEY_ADMIN_TOKEN"},
		"UnsetNone":   {"", "", 401, "unset", "admin_token: env:PARLEY_ADMIN_TOKEN"},
		"UnsetOthers": {"", "Bearer " + token, 401, "unset", "admin_token: env:PARLEY_ADMIN_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged bytes.Buffer
			o, counted := two(), prometheus.NewPedanticRegistry()
			h := handler(t, console.Config{Token: row.token, Operator: o, Letters: o, Conversations: o, Registerer: counted, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/cluster/drain", strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			if row.header != "" {
				r.Header.Set("Authorization", row.header)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if row.status == 200 {
				if w.Code != 202 || len(o.drained) != 1 {
					t.Fatalf("status %d, drained %q: %s", w.Code, o.drained, w.Body)
				}
				return
			}
			if w.Code != row.status || len(o.drained) != 0 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("status %d, drained %q, header %v", w.Code, o.drained, w.Header())
			}
			var p struct{ Detail string }
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || !strings.Contains(p.Detail, row.says) {
				t.Errorf("%v: %q lacks %q", err, p.Detail, row.says)
			}
			for _, secret := range []string{token, "YWRtaW46YWRtaW4=", "another-test"} {
				if strings.Contains(w.Body.String()+logged.String(), secret) {
					t.Errorf("%q is repeated: %s, %s", secret, w.Body, &logged)
				}
			}
			want := map[string]float64{"missing": 0, "unset": 0, "wrong": 0}
			want[row.cause] = 1
			if d := cmp.Diff(want, refusals(t, counted)); d != "" {
				t.Error(d)
			}
		})
	}
}

// refusals are those that were counted, by cause.
func refusals(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "parley_console_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return out
}

// Nobody without the token learns which paths there are.
func TestTokenComesFirst(t *testing.T) {
	t.Parallel()
	h := handler(t, console.Config{Token: token, Operator: two(), Letters: two(), Conversations: two()})
	for _, path := range []string{"/api/", "/api/none", "/api/cluster/members", "/api/docs", "/api/schemas/Member.json"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// The description is that of the last review. It is for everyone, and makes nobody
// load anything.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := handler(t, console.Config{Operator: two(), Letters: two(), Conversations: two()})
	for path, kind := range map[string]string{"/api/openapi.json": "application/openapi+json", "/api/openapi.yaml": "application/openapi+yaml"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		if w.Code != 200 || w.Header().Get("Content-Type") != kind {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		if strings.Contains(w.Body.String(), "://") {
			t.Errorf("%s names another host", path)
		}
		if strings.HasSuffix(path, ".json") {
			golden(t, "openapi.json", indented(t, w.Body.Bytes()))
		} else if !strings.Contains(w.Body.String(), "locate-conversation") {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/api/openapi.json", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("POST: %d", w.Code)
	}
}

// Whatever has a name in the answers has one in the description, and words.
func TestOpenAPIIsWhole(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("testdata", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Description string
					Ref         string `json:"$ref"`
				}
			}
		}
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	described := 0
	for name, schema := range spec.Components.Schemas {
		for property, p := range schema.Properties {
			if described++; p.Description == "" && p.Ref == "" {
				t.Errorf("%s.%s has no description", name, property)
			}
		}
	}
	if described < 50 {
		t.Errorf("%d properties: is this the description?", described)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := console.New(console.Config{Token: token}); err == nil {
		t.Error("no operator")
	}
	_, err := console.New(console.Config{Token: "too-short", Operator: two(), Letters: two(), Conversations: two()})
	if err == nil || strings.Contains(err.Error(), "too-short") {
		t.Errorf("a short token: %v", err)
	}
}

// A bug ends its request, not the node, and is told to the node's own log.
func TestPanic(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	srv := httptest.NewServer(handler(t, console.Config{Token: token, Operator: &operator{panics: true}, Letters: &operator{panics: true}, Conversations: &operator{panics: true}, Logger: slog.New(slog.NewTextHandler(&logged, nil))}))
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/api/cluster/members", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if resp, err := srv.Client().Do(r); err == nil {
		t.Errorf("status %d", resp.StatusCode)
	}
	srv.Close()
	if !strings.Contains(logged.String(), "a bug") {
		t.Errorf("log: %s", &logged)
	}
}

// It is used by many at once: nothing is made at the first request.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(handler(t, console.Config{Token: token, Operator: two(), Letters: two(), Conversations: two()}))
	defer srv.Close()
	ended := make(chan error)
	paths := []string{"/api/openapi.json", "/api/openapi.yaml", "/api/cluster/status", "/api/cluster/members"}
	for i := range 16 {
		go func() {
			r, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+paths[i%len(paths)], nil)
			if err != nil {
				ended <- err
				return
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := srv.Client().Do(r)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				err = errors.Join(err, resp.Body.Close())
			}
			ended <- err
		}()
	}
	for range 16 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
