package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// proxy is an HAProxy with the configuration of deployments/ as it stands, in front
// of three nodes.
type proxy struct {
	url string
	cmd *exec.Cmd

	mu  sync.Mutex
	log bytes.Buffer
}

// proxied is a node's addresses, as the configuration wants them: host:port.
type proxied struct{ webhooks, admin string }

// startProxy starts one; without HAProxy the test is skipped, or fails in CI.
func startProxy(t *testing.T, nodes [3]proxied) *proxy {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		program = "/usr/sbin/haproxy"
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no haproxy: apt-get install haproxy")
		}
		t.Skip("SKIPPED, NOT TESTED: no haproxy: apt-get install haproxy")
	}
	// It gets the socket and no address, so that nobody else can take the port.
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join("..", "..", "deployments", "haproxy.cfg")
	if _, err := os.ReadFile(config); err != nil { // which tells go test that results depend on it
		t.Fatal(err)
	}
	p := &proxy{url: "http://" + ln.Addr().String()}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, "-db", "-f", config)
	p.cmd.ExtraFiles = []*os.File{socket} // number 3 there
	p.cmd.Env = environment("PARLEY_PROXY=fd@3")
	for i, n := range nodes {
		p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("PARLEY_NODE%d=%s", i+1, n.webhooks), fmt.Sprintf("PARLEY_NODE%d_ADMIN=%s", i+1, n.admin))
	}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = socket.Close(), ln.Close()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it ends by the signal
		if t.Failed() {
			t.Logf("HAProxy said:\n%s", p.said())
		}
	})
	return p
}

// Write takes what HAProxy says.
func (p *proxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *proxy) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// backend is something that answers like a node.
type backend struct {
	webhooks, admin *httptest.Server
	ready           atomic.Bool
	checks          atomic.Int64  // of its health
	got             atomic.Int64  // posts, whole or not
	dies            atomic.Bool   // in the middle of a post, once it has seen all of it
	holds           chan struct{} // posts to /webhooks/held stay until it is closed, by release
	release         func()
	held            atomic.Int64
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{holds: make(chan struct{})}
	b.release = sync.OnceFunc(func() { close(b.holds) })
	b.ready.Store(true)
	b.webhooks = httptest.NewServer(http.HandlerFunc(b.post))
	b.admin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.checks.Add(1); r.Method != http.MethodGet || r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
		} else if !b.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(b.admin.Close)
	t.Cleanup(b.webhooks.Close)
	t.Cleanup(b.release) // or nobody could close it
	return b
}

func (b *backend) post(w http.ResponseWriter, r *http.Request) {
	b.got.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	if b.dies.Load() {
		panic(http.ErrAbortHandler) // the connection breaks, without an answer
	}
	if r.URL.Path == "/webhooks/held" {
		b.held.Add(1)
		<-b.holds
	}
}

func (b *backend) address() proxied {
	return proxied{webhooks: b.webhooks.Listener.Addr().String(), admin: b.admin.Listener.Addr().String()}
}

// refuseWebhooks closes the port for webhooks. The health is what it was: as if the
// node had died a moment ago.
func (b *backend) refuseWebhooks() { b.webhooks.Close() }

// behindProxy is three backends, and the proxy that has looked at all of them.
func behindProxy(t *testing.T) (*proxy, [3]*backend) {
	t.Helper()
	var backends [3]*backend
	var nodes [3]proxied
	for i := range backends {
		backends[i] = newBackend(t)
		nodes[i] = backends[i].address()
	}
	p := startProxy(t, nodes)
	for _, b := range backends {
		await(t, "somebody has looked at the health of "+b.admin.URL, func() bool { return b.checks.Load() > 0 })
	}
	return p, backends
}

// postTo posts to a backend, which reads nothing, and returns the status; 0 if the
// connection broke.
func postTo(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	return postOnce(t, client, url, []byte(`{"object":"page"}`))
}

// postMessage posts a message of a user to the Page of nodes.
func postMessage(t *testing.T, client *http.Client, url, user, id string) int {
	t.Helper()
	return postOnce(t, client, url+"/webhooks/"+appName, message(user, id, "hello"))
}

func postOnce(t *testing.T, client *http.Client, url string, body []byte) int {
	t.Helper()
	// Without a way to get the body again, so that the client repeats nothing itself.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("X-Hub-Signature-256", sign(body))
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// aloof makes a client that has a connection for each request; otherwise it keeps
// them, as Meta does.
func aloof(t *testing.T, yes bool) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: yes}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestHAProxySpreads(t *testing.T) {
	t.Parallel()
	p, backends := behindProxy(t)
	client := aloof(t, false)
	const each = 10
	for range each * len(backends) {
		if status := postTo(t, client, p.url+"/webhooks/shop"); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	for i, b := range backends {
		if n := b.got.Load(); n != each {
			t.Errorf("node %d got %d posts, want %d", i+1, n, each)
		}
	}
	if status := postTo(t, client, p.url+"/metrics"); status != 404 {
		t.Errorf("what isn't a webhook: status %d", status)
	}
}

// A post that a node has seen goes to no other, and not to it again, however the
// node ends: with a connection of its own, and with one that has served before.
func TestHAProxySendsNoPostTwice(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{"FirstOfItsConnection": false, "LaterOne": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, backends := behindProxy(t)
			client := aloof(t, !kept)
			const before = 6
			for range before {
				if status := postTo(t, client, p.url+"/webhooks/shop"); status != 200 {
					t.Fatalf("status %d", status)
				}
			}
			for _, b := range backends {
				b.dies.Store(true)
			}
			const sent = 9
			for range sent {
				if status := postTo(t, client, p.url+"/webhooks/shop"); status != 0 && status < 500 {
					t.Errorf("status %d for a post that no node has answered", status)
				}
			}
			total := int64(-before)
			for _, b := range backends {
				total += b.got.Load()
			}
			if total != sent {
				t.Errorf("nodes got %d posts, want the %d that were sent", total, sent)
			}
		})
	}
}

// A node that is gone, before its health tells, costs no post: but for one that is
// sent on a connection that was kept, in the moment in which it is closed.
func TestHAProxyGoesOnToAnother(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]int64{"NewConnections": 0, "KeptConnections": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, backends := behindProxy(t)
			client := aloof(t, kept == 0)
			for range 6 {
				postTo(t, client, p.url+"/webhooks/shop")
			}
			backends[1].refuseWebhooks()
			before := backends[0].got.Load() + backends[2].got.Load()
			const sent = 30
			broken := int64(0)
			for range sent {
				if status := postTo(t, client, p.url+"/webhooks/shop"); status == 0 {
					broken++
				} else if status != 200 {
					t.Errorf("status %d", status)
				}
			}
			if broken > kept {
				t.Errorf("%d posts without an answer", broken)
			}
			if n := backends[0].got.Load() + backends[2].got.Load() - before; n != sent-broken {
				t.Errorf("the other nodes got %d posts, want %d", n, sent-broken)
			}
			backends[0].refuseWebhooks()
			backends[2].refuseWebhooks()
			if status := postTo(t, aloof(t, true), p.url+"/webhooks/shop"); status != 503 {
				t.Errorf("status %d with no node left", status)
			}
		})
	}
}

// A node that isn't ready gets nothing new within two seconds, brings what it has to
// its end, and is back as soon as it is ready again.
func TestHAProxyLetsDrain(t *testing.T) {
	t.Parallel()
	p, backends := behindProxy(t)
	client := aloof(t, false)
	held := make(chan int, len(backends))
	for range backends { // one for each
		go func() { held <- postTo(t, client, p.url+"/webhooks/held") }()
	}
	leaver := backends[0]
	await(t, "a post is held", func() bool { return leaver.held.Load() > 0 })

	leaver.ready.Store(false)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if status := postTo(t, client, p.url+"/webhooks/shop"); status != 200 {
			t.Fatalf("status %d while a node leaves", status)
		}
	}
	before := leaver.got.Load()
	for range 60 {
		if status := postTo(t, client, p.url+"/webhooks/shop"); status != 200 {
			t.Fatalf("status %d after a node has left", status)
		}
	}
	if n := leaver.got.Load() - before; n != 0 {
		t.Errorf("a node that is not ready got %d posts", n)
	}
	for _, b := range backends {
		b.release()
	}
	for range backends {
		if status := <-held; status != 200 {
			t.Errorf("status %d of a post that was under way", status)
		}
	}

	leaver.ready.Store(true)
	await(t, "the node is back", func() bool {
		postTo(t, client, p.url+"/webhooks/shop")
		return leaver.got.Load() > before
	})
}

// Told to go, it ends what is under way first.
func TestHAProxyEndsSoftly(t *testing.T) {
	t.Parallel()
	p, backends := behindProxy(t)
	client := aloof(t, false)
	held := make(chan int, 1)
	go func() { held <- postTo(t, client, p.url+"/webhooks/held") }()
	under := func() (n int64) {
		for _, b := range backends {
			n += b.held.Load()
		}
		return n
	}
	await(t, "a post is held", func() bool { return under() > 0 })
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	await(t, "nobody listens", func() bool { return postTo(t, aloof(t, true), p.url+"/webhooks/shop") == 0 })
	for _, b := range backends {
		b.release()
	}
	if status := <-held; status != 200 {
		t.Errorf("status %d of the post that was under way", status)
	}
}

// What it writes down of a request is its path: the query of Meta's handshake holds
// a secret, and so does a signature.
func TestHAProxyLogsNoSecret(t *testing.T) {
	t.Parallel()
	p, backends := behindProxy(t)
	for _, b := range backends {
		b.dies.Store(true)
	}
	postTo(t, aloof(t, true), p.url+"/webhooks/shop?hub.verify_token=zanzibar")
	await(t, "there is a line of the log", func() bool { return strings.Contains(p.said(), "/webhooks/shop") })
	if strings.Contains(p.said(), "zanzibar") {
		t.Error("the log shows a query")
	}
}

// Nodes that die under load, one after another, cost what was under way with them,
// which Meta sends again, and nothing after that.
func TestHAProxyAndNodesThatDie(t *testing.T) {
	t.Parallel()
	const writers, enough = 8, 200
	p, nodes := nodesBehindProxy(t)
	client := aloof(t, false)
	var acked, failed atomic.Int64
	var over atomic.Bool
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for k := 0; !over.Load(); k++ {
				if postMessage(t, client, p.url, fmt.Sprintf("u%d", w), fmt.Sprintf("%d-%d", w, k)) == 200 {
					acked.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	more := func() {
		from := acked.Load()
		await(t, "there is load", func() bool { return acked.Load() >= from+enough })
	}
	more()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d posts have failed before any node has died", n)
	}
	for _, n := range nodes[:2] {
		before := failed.Load()
		n.kill()
		more()
		// A dying process closes its connections one after another, so that a writer may
		// meet it twice.
		settled := failed.Load()
		if lost := settled - before; lost > 2*writers {
			t.Errorf("%d posts of %d writers have failed", lost, writers)
		}
		if more(); failed.Load() != settled {
			t.Errorf("%d posts have failed after that", failed.Load()-settled)
		}
	}
	over.Store(true)
	writing.Wait()
}

// nodesBehindProxy is three nodes, each with a store of its own, and a proxy.
func nodesBehindProxy(t *testing.T) (*proxy, [3]*instance) {
	t.Helper()
	g := newGraph(t)
	var at [3]proxied
	var nodes [3]*instance
	for i := range nodes {
		nodes[i] = newHouse(t).start(t, asItself, configured(g.URL, channel("messenger", pageID, "greeter")))
		webhooks, admin := nodes[i].addresses()
		at[i] = proxied{webhooks: strings.TrimPrefix(webhooks, "http://"), admin: strings.TrimPrefix(admin, "http://")}
	}
	return startProxy(t, at), nodes
}
