package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
	"github.com/parleychat/parley/node"
	"github.com/parleychat/parley/persistence/memory"
)

// updating says whether golden files are rewritten: -update is flow/flowtest's, which the
// node links.
func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

const adminToken = "a-token-of-this-test"

// town is a cluster that is what a test says. Each look at a drain finds a step of
// it, the last one for ever.
type town struct {
	mu      sync.Mutex
	status  console.Status
	place   console.Place
	err     error
	drained []string
	steps   []func(*console.MemberStatus) // of the member that drains; nil: it is gone
	broken  []error                       // what the first looks fail with
}

func (o *town) Members(context.Context) ([]console.Member, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []console.Member
	for _, m := range o.status.Members {
		out = append(out, m.Member)
	}
	return out, o.err
}

func (o *town) Status(context.Context) (console.Status, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.status
	s.Members = slices.Clone(s.Members)
	if len(o.drained) == 0 {
		return s, o.err
	}
	if len(o.broken) > 0 {
		err := o.broken[0]
		o.broken = o.broken[1:]
		return s, err
	}
	i := slices.IndexFunc(s.Members, func(m console.MemberStatus) bool { return m.Name == o.drained[0] })
	step := o.steps[0]
	if len(o.steps) > 1 {
		o.steps = o.steps[1:]
	}
	if step == nil {
		s.Members = slices.Delete(s.Members, i, i+1)
		return s, nil
	}
	s.Members[i].Draining, s.Members[i].OwnedShards = true, 0
	step(&s.Members[i])
	return s, nil
}

func (o *town) Where(_ context.Context, c parley.Conversation) (console.Place, error) {
	p := o.place
	p.Conversation, p.Shard, p.ChannelShard = c.String(), int(c.Shard()), 77
	return p, o.err
}

func (o *town) Drain(_ context.Context, member string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drained = append(o.drained, member)
	return o.err
}

// three is a cluster of three members in the middle of an upgrade.
func three() *town {
	member := func(name, addr, version string, format int, roles ...string) console.Member {
		return console.Member{Name: name, Address: addr, Version: version, Format: format, Roles: roles}
	}
	all := []string{"ingress", "actors", "egress", "console"}
	one := member("node1-1764123456789", "10.0.0.1:7947", "v1.3.0", 4, all...)
	one.Self = true
	two := member("node2-1764123456801", "10.0.0.2:7947", "v1.3.0", 4, all...)
	ten := member("node10-1764120000000", "10.0.0.10:7947", "v1.2.1-0.20261126024537-682589dabcde", 3, "ingress")
	o := &town{place: console.Place{Owner: &one, Sender: &two}}
	o.status = console.Status{Node: one.Name, ViewsAgree: true, Backlog: console.BacklogOf(parley.Backlog{
		Pending: 12, Oldest: 1532 * time.Millisecond, Unsent: 340, Timers: 81234, Receipts: 20, Dead: 1, Calls: 3, OldestCall: 1200 * time.Millisecond,
	})}
	o.status.Shards.Total = parley.Shards
	o.status.Members = []console.MemberStatus{
		{Member: one, Answering: true, OwnedShards: 2047, HeldShards: 2048, HandoversUnderWay: 1, LiveConversations: 103211, HeldRows: 52, ActiveChannels: 210, ViewAgrees: true},
		{Member: two, Answering: true, OwnedShards: 2049, HeldShards: 2048, HandoversUnderWay: 1, LiveConversations: 99874, HeldRows: 40, ActiveChannels: 198, ClockOffsetMS: -12, ViewAgrees: true},
		{Member: ten, Answering: true, ClockOffsetMS: 3, ViewAgrees: true},
	}
	return o
}

// listen serves a town's admin API, and returns its address and the place of its
// token.
func listen(t *testing.T, o console.Operator) (admin, place string) {
	t.Helper()
	api, err := console.New(console.Config{Token: adminToken, Operator: o, Letters: office{store: memory.New(memory.Config{})}, Conversations: noConversations{}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", api.Handler())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL, secret(t, adminToken)
}

func secret(t *testing.T, text string) (place string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

// parleyCluster runs parley cluster.
func parleyCluster(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = node.Command(t.Context(), &o, &e, append([]string{"cluster"}, args...)...)
	return code, o.String(), e.String()
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "cluster", name)
	if updating() {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), text); d != "" {
		t.Errorf("%s (-update rewrites it):\n%s", path, d)
	}
}

func TestClusterTables(t *testing.T) {
	t.Parallel()
	changed := func(change func(*town)) *town {
		o := three()
		change(o)
		return o
	}
	yes, no := true, false
	for name, row := range map[string]struct {
		town *town
		args []string
	}{
		"members":      {three(), []string{"members"}},
		"members-json": {three(), []string{"members", "--json"}},
		"members-wide": {changed(func(o *town) {
			o.status.Members[1].Address, o.status.Members[1].Draining = "[2001:db8::10:2]:7947", true
			o.status.Members[1].Roles = []string{"ingress", "actors", "egress"}
		}), []string{"members"}},
		"status":      {three(), []string{"status"}},
		"status-json": {three(), []string{"status", "--json"}},
		"status-bad": {changed(func(o *town) {
			s := &o.status
			s.ViewsAgree, s.ViewsDifferMS, s.Backlog, s.Members[1].ViewAgrees = false, 7000, nil, false
			s.Members[2] = console.MemberStatus{Member: s.Members[2].Member}
			s.Members[1].ClockOffsetMS, s.Members[1].Draining = -61234, true
		}), []string{"status"}},
		"status-unowned": {changed(func(o *town) {
			s := &o.status
			s.Members, s.Alone, s.Shards.Unowned = s.Members[2:], true, parley.Shards
			s.Members[0].Self, s.Node, s.Backlog.OldestPendingMS = true, s.Members[0].Name, 95000
		}), []string{"status"}},
		"where":     {changed(func(o *town) { o.place.Live = &yes }), []string{"where", "acme/whatsapp/106540352242922/bsuid:DE.1a/2b"}},
		"where-not": {changed(func(o *town) { o.place.Live, o.place.Sender.Draining = &no, true }), []string{"where", "acme/messenger/1/user:2"}},
		"where-nobody": {changed(func(o *town) {
			o.place = console.Place{}
		}), []string{"where", "acme/messenger/1/user:2"}},
		"where-silent": {three(), []string{"where", "acme/messenger/1/user:2"}},
		"where-json":   {three(), []string{"where", "--json", "acme/messenger/1/user:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin, place := listen(t, row.town)
			code, out, errs := parleyCluster(t, append(row.args, "--admin", admin, "--token", place)...)
			if code != 0 || errs != "" {
				t.Errorf("exit code %d: %s", code, errs)
			}
			golden(t, name+".txt", out)
			for line := range strings.Lines(out) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 && !strings.HasSuffix(name, "-json") {
					t.Errorf("a line of %d columns: %s", n, line)
				}
			}
		})
	}
}

func holding(shards, conversations int) func(*console.MemberStatus) {
	return func(m *console.MemberStatus) {
		m.HeldShards, m.LiveConversations, m.HandoversUnderWay, m.ActiveChannels = shards, conversations, min(shards, 2), min(shards, 5)
	}
}

func TestClusterDrain(t *testing.T) {
	t.Parallel()
	silent := func(m *console.MemberStatus) { *m = console.MemberStatus{Member: m.Member} }
	for name, row := range map[string]struct {
		args   []string
		steps  []func(*console.MemberStatus)
		broken []error
		asked  string
		code   int
		lines  []string // in their order, without the time
		errs   string
	}{
		"HoldsNothing": {
			args: []string{"node2"}, steps: []func(*console.MemberStatus){holding(2048, 99874), holding(1, 7), holding(0, 0)},
			asked: "node2-1764123456801",
			lines: []string{
				"node2-1764123456801: 2048 shards left, 2 under way, 99874 conversations, 5 channels",
				"node2-1764123456801: 1 shards left, 1 under way, 7 conversations, 1 channels",
				"node2-1764123456801: holds nothing any more: it may be stopped",
			},
		},
		"Gone": {
			args: []string{"node10-1764120000000"}, steps: []func(*console.MemberStatus){holding(1, 1), nil}, asked: "node10-1764120000000",
			lines: []string{"node10-1764120000000: 1 shards left, 1 under way, 1 conversations, 1 channels", "node10-1764120000000: is gone"},
		},
		"TheOneThatIsAsked": {steps: []func(*console.MemberStatus){nil}, asked: "node1-1764123456789", lines: []string{"node1-1764123456789: is gone"}},
		"Silent": {
			args: []string{"node2"}, steps: []func(*console.MemberStatus){silent, holding(0, 0)}, asked: "node2-1764123456801",
			lines: []string{"node2-1764123456801: it does not answer node1-1764123456789", "node2-1764123456801: holds nothing any more: it may be stopped"},
		},
		"StatusFailsForATime": {
			args: []string{"node2"}, broken: []error{fmt.Errorf("backlog: %w", parley.ErrUnavailable)},
			steps: []func(*console.MemberStatus){holding(0, 0)}, asked: "node2-1764123456801",
			lines: []string{"node2-1764123456801: backlog: store is unavailable", "node2-1764123456801: holds nothing any more: it may be stopped"},
		},
		"NoWait": {args: []string{"node2", "--no-wait"}, asked: "node2-1764123456801", errs: "node2-1764123456801 drains: parley cluster status"},
		"Deadline": {
			args: []string{"node2", "--deadline", "100ms", "--pace", "1h"}, steps: []func(*console.MemberStatus){holding(2048, 1)}, asked: "node2-1764123456801",
			code: 1, lines: []string{"node2-1764123456801: 2048 shards left, 2 under way, 1 conversations, 5 channels"},
			errs: "the deadline of 100ms has passed: node2-1764123456801 goes on draining",
		},
		"Nobody":    {args: []string{"node3"}, code: 1, errs: `there is no member "node3", only node1-1764123456789, `},
		"Ambiguous": {args: []string{"node1"}, code: 1, errs: `"node1" is the beginning of more than one name`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := three()
			o.steps, o.broken = row.steps, row.broken
			admin, place := listen(t, o)
			args := append([]string{"drain", "--pace", "1ms", "--admin", admin, "--token", place}, row.args...)
			code, out, errs := parleyCluster(t, args...)
			if code != row.code || !strings.Contains(errs, row.errs) || row.errs == "" && errs != "" {
				t.Errorf("exit code %d, want %d; standard error %q, want %q", code, row.code, errs, row.errs)
			}
			var lines []string
			for line := range strings.Lines(out) {
				_, text, _ := strings.Cut(line, "  node")
				lines = append(lines, "node"+strings.TrimSpace(text))
			}
			if d := cmp.Diff(row.lines, lines); d != "" {
				t.Error(d)
			}
			if len(o.drained) > 1 || row.asked != strings.Join(o.drained, "") {
				t.Errorf("drained %q, want %q", o.drained, row.asked)
			}
		})
	}
}

// Each line of --json is a whole object.
func TestClusterDrainJSON(t *testing.T) {
	t.Parallel()
	o := three()
	o.steps = []func(*console.MemberStatus){holding(3, 3), holding(0, 0)}
	admin, place := listen(t, o)
	code, out, errs := parleyCluster(t, "drain", "node2", "--json", "--pace", "1ms", "--admin", admin, "--token", place)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var states []string
	for line := range strings.Lines(out) {
		var p struct {
			State  string                `json:"state"`
			Member *console.MemberStatus `json:"member"`
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Member == nil {
			t.Fatalf("%v: %s", err, line)
		}
		states = append(states, fmt.Sprint(p.State, p.Member.HeldShards))
	}
	if d := cmp.Diff([]string{"draining3", "drained0"}, states); d != "" {
		t.Error(d)
	}
}

// The node that is asked leaves: nobody listens there any more.
func TestClusterDrainAsksWhoLeaves(t *testing.T) {
	t.Parallel()
	o := three()
	api, err := console.New(console.Config{Token: adminToken, Operator: o, Letters: office{store: memory.New(memory.Config{})}, Conversations: noConversations{}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.Handler())
	defer srv.Close()
	left := make(chan struct{})
	o.steps = []func(*console.MemberStatus){func(m *console.MemberStatus) {
		holding(9, 9)(m)
		select {
		case <-left:
		default:
			close(left)
			_ = srv.Listener.Close() // what is under way ends as it should
		}
	}}
	code, out, errs := parleyCluster(t, "drain", "--pace", "1ms", "--deadline", "30s", "--admin", srv.URL, "--token", secret(t, adminToken))
	if code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if !strings.Contains(out, "9 shards left") || !strings.HasSuffix(out, "is gone\n") {
		t.Errorf("standard output: %s", out)
	}
}

func TestClusterErrors(t *testing.T) {
	t.Parallel()
	admin, place := listen(t, three())
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer elsewhere-elsewhere":
			http.Redirect(w, r, admin+r.URL.Path, http.StatusFound)
		case "Bearer something-something":
			_, _ = fmt.Fprintln(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(stranger.Close)
	failing, _ := listen(t, &town{err: errors.New("look: it is dark")})
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"Refused":    {[]string{"members", "--admin", gone.URL, "--token", place}, "does the node run, and is that its admin address? Set --admin"},
		"WrongToken": {[]string{"members", "--admin", admin, "--token", secret(t, "another-"+adminToken)}, "refuses the token: This is not the token"},
		"NoToken":    {[]string{"status", "--admin", admin, "--token", "env:PARLEY_TEST_OF_NO_TOKEN"}, "PARLEY_TEST_OF_NO_TOKEN: the environment variable is not set; it is the one that admin_token"},
		"Literal":    {[]string{"status", "--admin", admin, "--token", adminToken}, "--token: a secret is written as env:NAME or file:PATH"},
		"NoAPI":      {[]string{"status", "--admin", stranger.URL, "--token", place}, "there is no admin API at"},
		"NoNode":     {[]string{"status", "--admin", stranger.URL, "--token", secret(t, "something-something")}, "answers like something else than a node"},
		"Redirect":   {[]string{"status", "--admin", stranger.URL, "--token", secret(t, "elsewhere-elsewhere")}, "302 Found, unlike a node"},
		"NoURL":      {[]string{"status", "--admin", "ftp://node", "--token", place}, "want a URL such as"},
		"Failing":    {[]string{"drain", "--admin", failing, "--token", place}, "look: it is dark"},
		"Where":      {[]string{"where", "acme/telegram/1/user:2", "--admin", gone.URL, "--token", place}, "channel kind"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := parleyCluster(t, row.args...)
			if code != 1 || out != "" || !strings.Contains(errs, row.says) {
				t.Errorf("exit code %d, standard output %q, standard error %q: want %q", code, out, errs, row.says)
			}
			if strings.Contains(errs, adminToken) {
				t.Errorf("the token is shown: %s", errs)
			}
		})
	}
}

// serve takes an address without a scheme: so does this, as both read PARLEY_ADMIN.
func TestClusterAdminWithoutScheme(t *testing.T) {
	t.Parallel()
	admin, place := listen(t, three())
	if code, _, errs := parleyCluster(t, "members", "--admin", strings.TrimPrefix(admin, "http://"), "--token", place); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
