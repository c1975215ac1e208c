package ingress_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp refreshes the Date header in a goroutine of its own, for ever.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// Its worker pool notices only every 10 s that it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

const (
	secret     = "the app's secret"
	oldSecret  = "the secret before it"
	token      = "verify-me"
	appName    = parley.App("shop")
	waNumber   = "100200300"
	pageID     = "555000"
	strangeID  = "999999" // of a channel that nobody learnt
	retryAfter = "3"
)

func waChannel() parley.Channel {
	return parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: waNumber}
}

func pageChannel() parley.Channel {
	return parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: pageID}
}

// store is an inbox and a quarantine in memory, with the duties of a real one:
// numbers in the order of the appends, release in one step.
type store struct {
	// before, if set, is called at the start of each Append; its error is
	// Append's, and nothing is stored.
	before func(ctx context.Context, a parley.Arrivals) error
	// releasing is the same for Release.
	releasing func(a parley.Arrivals) error

	mu         sync.Mutex
	seq        parley.Seq
	rows       []parley.Pending
	receipts   []parley.Receipt
	quarantine []parley.Quarantined
	lastID     uint64
	appends    int
	groups     []int // events of each append
}

var (
	_ ingress.Inbox      = (*store)(nil)
	_ ingress.Quarantine = (*store)(nil)
)

func (s *store) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	if s.before != nil {
		if err := s.before(ctx, a); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appends++
	s.groups = append(s.groups, len(a.Events))
	return s.take(a), nil
}

func (s *store) take(a parley.Arrivals) []parley.Pending {
	rows := make([]parley.Pending, 0, len(a.Events))
	for _, e := range a.Events {
		s.seq++
		rows = append(rows, parley.Pending{
			Row:          parley.Row{Seq: s.seq, Token: parley.Token(s.seq)},
			Conversation: parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]},
			Key:          e.Key, Time: e.Time, Input: e.Input,
		})
	}
	s.rows = append(s.rows, rows...)
	s.receipts = append(s.receipts, a.Receipts...)
	for _, q := range a.Quarantined {
		s.lastID++
		binary.BigEndian.PutUint64(q.ID[8:], s.lastID)
		s.quarantine = append(s.quarantine, q)
	}
	return rows
}

func (s *store) Quarantined(_ context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []parley.Quarantined
	for _, q := range s.quarantine {
		if len(found) < limit && q.App == app && q.Kind == ch.Kind && q.ChannelID == ch.ID && bytes.Compare(q.ID[:], after[:]) > 0 {
			found = append(found, q)
		}
	}
	return found, nil
}

func (s *store) Release(_ context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	if s.releasing != nil {
		if err := s.releasing(a); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if !slices.ContainsFunc(s.quarantine, func(q parley.Quarantined) bool { return q.ID == id }) {
			return nil, parley.ErrConflict
		}
	}
	s.quarantine = slices.DeleteFunc(s.quarantine, func(q parley.Quarantined) bool { return slices.Contains(ids, q.ID) })
	return s.take(a), nil
}

// counts is what is in the store, and by how many appends it came.
type counts struct{ events, receipts, quarantined, appends int }

func (s *store) counts() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return counts{len(s.rows), len(s.receipts), len(s.quarantine), s.appends}
}

func (s *store) texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.rows {
		if m, ok := r.Input.(parley.Message); ok {
			all = append(all, m.Text)
		}
	}
	return all
}

// hints collects what is delivered.
type hints struct {
	mu   sync.Mutex
	rows []parley.Pending
}

func (h *hints) Deliver(rows []parley.Pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rows = append(h.rows, rows...)
}

func (h *hints) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rows)
}

// rig is a running server with what it stands on.
type rig struct {
	server  *ingress.Server
	store   *store
	hints   *hints
	metrics *prometheus.Registry
	dial    func() (net.Conn, error)
	stop    func() error // cancels Run and returns what it returned
}

// start runs a server on an in-memory listener until the test ends. The
// WhatsApp number and the page are learnt.
func start(tb testing.TB, adjust ...func(*ingress.Config)) *rig {
	tb.Helper()
	g := prepare(tb, adjust...)
	g.run(tb)
	if err := g.server.Learn(tb.Context(), appName, []parley.Channel{waChannel(), pageChannel()}); err != nil {
		tb.Fatal(err)
	}
	return g
}

func prepare(tb testing.TB, adjust ...func(*ingress.Config)) *rig {
	tb.Helper()
	ln := fasthttputil.NewInmemoryListener()
	g := &rig{store: &store{}, hints: &hints{}, metrics: prometheus.NewRegistry(), dial: ln.Dial}
	cfg := ingress.Config{
		Listener: ln,
		Apps: []ingress.App{{
			Name: appName, MetaAppID: "4242", Secrets: []string{secret, oldSecret}, VerifyTokens: []string{token},
		}},
		Inbox: g.store, Quarantine: g.store, Deliverer: g.hints, Registerer: g.metrics,
		Limits: ingress.Limits{RetryAfter: 3 * time.Second},
	}
	for _, f := range adjust {
		f(&cfg)
	}
	if tcp, ok := cfg.Listener.(*net.TCPListener); ok {
		g.dial = func() (net.Conn, error) { return net.Dial("tcp", tcp.Addr().String()) }
	}
	var err error
	if g.server, err = ingress.New(cfg); err != nil {
		tb.Fatal(err)
	}
	return g
}

func (g *rig) run(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.server.Run(ctx) }()
	g.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Run did not return")
		}
	})
	tb.Cleanup(func() {
		if err := g.stop(); err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
}

// loopback has the server listen on a real socket.
func loopback(tb testing.TB) func(*ingress.Config) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return func(cfg *ingress.Config) { cfg.Listener = ln }
}

// client is one connection.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

func (g *rig) client(tb testing.TB) *client {
	tb.Helper()
	conn, err := g.dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &client{conn: conn, r: bufio.NewReader(conn)}
}

type reply struct {
	status int
	body   string
	header func(name string) string
}

// do sends one request, written by hand, and reads its answer.
func (c *client) do(method, path string, header map[string]string, body []byte) (reply, error) {
	if err := c.send(method, path, header, body); err != nil {
		return reply{}, err
	}
	return c.read(method)
}

func (c *client) send(method, path string, header map[string]string, body []byte) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", method, path)
	for k, v := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	_, err := c.conn.Write(b.Bytes())
	return err
}

func (c *client) read(method string) (reply, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return reply{}, err
	}
	var res fasthttp.Response
	res.SkipBody = method == "HEAD"
	if err := res.Read(c.r); err != nil {
		return reply{}, err
	}
	return reply{
		status: res.StatusCode(), body: string(res.Body()),
		header: func(name string) string { return string(res.Header.Peek(name)) },
	}, nil
}

// post signs body and posts it on a connection of its own.
func (g *rig) post(tb testing.TB, body []byte) reply {
	tb.Helper()
	got, err := g.client(tb).post(body)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func (c *client) post(body []byte) (reply, error) {
	return c.do("POST", "/webhooks/shop", signed(body), body)
}

func signed(body []byte) map[string]string {
	return map[string]string{"X-Hub-Signature-256": sign(body, secret)}
}

func sign(body []byte, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// eventually waits for cond.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

// waText is a WhatsApp text message as Meta posts it.
func waText(number, from, id, text string) []byte {
	return fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"77","changes":[{"value":{"messaging_product":"whatsapp",`+
		`"metadata":{"display_phone_number":"15550100","phone_number_id":%q},"contacts":[{"profile":{"name":"Ann"},"wa_id":%q}],`+
		`"messages":[{"from":%q,"id":%q,"timestamp":"1760000000","text":{"body":%q},"type":"text"}]},"field":"messages"}]}]}`,
		number, from, from, "wamid."+id, text)
}

// waBatch is a webhook of n messages; the one at bad has another shape.
func waBatch(n, bad, padding int) []byte {
	b := []byte(`{"object":"whatsapp_business_account","entry":[{"id":"77","changes":[{"value":{"messaging_product":"whatsapp",` +
		`"metadata":{"display_phone_number":"15550100","phone_number_id":"` + waNumber + `"},` +
		`"contacts":[{"profile":{"name":"Ann"},"wa_id":"4912"}],"messages":[`)
	pad := bytes.Repeat([]byte("x"), padding)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		if i == bad {
			b = append(b, `{"from":["4912"],"id":{"no":"string"},"timestamp":true,"type":"text","text":[1,2]}`...)
			continue
		}
		b = fmt.Appendf(b, `{"from":"4912","id":"wamid.%d","timestamp":"1760000000","type":"text","text":{"body":"%s"}}`, i, pad)
	}
	return append(b, `]},"field":"messages"}]}]}`...)
}

// gate makes appends wait until it is opened.
type gate struct {
	arrived chan int // events of each append that came to the gate
	open    chan struct{}
}

func newGate() *gate { return &gate{arrived: make(chan int, 1024), open: make(chan struct{})} }

func (g *gate) before(ctx context.Context, a parley.Arrivals) error {
	g.arrived <- len(a.Events)
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errDisk = errors.New("the disk is on fire")

// deaf is what a blocked inbox that ignores its context does.
func (g *gate) deaf(_ context.Context, a parley.Arrivals) error {
	g.arrived <- len(a.Events)
	<-g.open
	return nil
}

func isClosed(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}
