package meta

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
)

// Defaults of ClientConfig.
const (
	DefaultBaseURL      = "https://graph.facebook.com"
	DefaultInstagramURL = "https://graph.instagram.com"
	DefaultVersion      = "v26.0" // of 29 July 2026
	DefaultTimeout      = 20 * time.Second
	// DefaultUploadTimeout leaves Messenger the 75 s in which it fetches a video.
	DefaultUploadTimeout = 90 * time.Second
	DefaultMaxConns      = 512
	DefaultConnWait      = 5 * time.Second
	DefaultDialTimeout   = 5 * time.Second
	// DefaultIdle is how long an unused connection is kept: less than servers
	// usually keep theirs, since a request on one that they just closed is lost
	// with its outcome unknown.
	DefaultIdle = 15 * time.Second
)

const (
	maxAnswerBytes = 1 << 20
	// maxStale is how many connections in a row may turn out to be closed by the
	// provider before a send is put off. Nothing was sent on them.
	maxStale = 8
)

// ClientConfig is how a Client reaches the Graph API. The zero value is Meta.
type ClientConfig struct {
	BaseURL string // of Messenger, WhatsApp and Instagram through a Page
	// InstagramURL is for Instagram accounts that are not reached through a
	// Page. Empty: BaseURL if that is set, else DefaultInstagramURL.
	InstagramURL string
	Version      string
	Timeout      time.Duration // of a whole send
	// UploadTimeout is that of a whole upload.
	UploadTimeout time.Duration
	MaxConns      int           // to each of the two
	ConnWait      time.Duration // for one of them to become free
	DialTimeout   time.Duration
	Idle          time.Duration
	TLS           *tls.Config // nil: the system's roots
	// Dial replaces the dialling, for tests.
	Dial fasthttp.DialFuncWithTimeout
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.InstagramURL = cmp.Or(c.InstagramURL, c.BaseURL, DefaultInstagramURL)
	c.BaseURL = cmp.Or(c.BaseURL, DefaultBaseURL)
	c.Version = cmp.Or(c.Version, DefaultVersion)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.UploadTimeout = cmp.Or(c.UploadTimeout, DefaultUploadTimeout)
	c.MaxConns = cmp.Or(c.MaxConns, DefaultMaxConns)
	c.ConnWait = cmp.Or(c.ConnWait, DefaultConnWait)
	c.DialTimeout = cmp.Or(c.DialTimeout, DefaultDialTimeout)
	c.Idle = cmp.Or(c.Idle, DefaultIdle)
	return c
}

// Account is the right to send for a channel.
type Account struct {
	Token string
	// Secret is the app's; if it is there, each request carries appsecret_proof,
	// which apps can be set to require.
	Secret string
	// Heard, if set, is told what an answer's headers say of quotas, before Send
	// returns. It isn't called if they say nothing.
	Heard func(Usage)
	Sending
}

// Client sends messages by the Graph API. It never sends one twice by itself:
// whatever may have reached the provider is ClassUnknown, and the caller's to
// decide. It is safe for concurrent use.
type Client struct {
	cfg       ClientConfig
	facebook  *endpoint
	instagram *endpoint
}

type endpoint struct {
	base string // scheme, host and version
	host *fasthttp.HostClient
}

// NewClient makes a client; it opens no connection yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{cfg: cfg.withDefaults()}
	var err error
	if c.facebook, err = c.endpoint(c.cfg.BaseURL); err != nil {
		return nil, err
	}
	if c.cfg.InstagramURL == c.cfg.BaseURL {
		c.instagram = c.facebook
		return c, nil
	}
	c.instagram, err = c.endpoint(c.cfg.InstagramURL)
	return c, err
}

func (c *Client) endpoint(base string) (*endpoint, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("graph URL %q: want http:// or https:// and a host", base)
	}
	host := &fasthttp.HostClient{
		Addr:                fasthttp.AddMissingPort(u.Host, u.Scheme == "https"),
		DialTimeout:         c.dialer(u),
		MaxConns:            c.cfg.MaxConns,
		MaxConnWaitTimeout:  c.cfg.ConnWait,
		MaxIdleConnDuration: c.cfg.Idle,
		MaxResponseBodySize: maxAnswerBytes,
		// A request is written once. By itself fasthttp would write it again
		// when the connection is lost before an answer, and the message, which
		// has no idempotency key, would be sent twice.
		MaxIdemponentCallAttempts: 1,
		RetryIfErr:                func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		NoDefaultUserAgentHeader:  true,
		DisablePathNormalizing:    true,
	}
	// To fasthttp all is plain HTTP: TLS is the dialer's, so that connections
	// can be watched above it.
	path := strings.TrimSuffix(u.Path, "/") + "/" + c.cfg.Version + "/"
	return &endpoint{base: "http://" + u.Host + path, host: host}, nil
}

func (c *Client) dialer(u *url.URL) fasthttp.DialFuncWithTimeout {
	d := dialer{dial: c.cfg.Dial, limit: c.cfg.DialTimeout}
	if d.dial == nil {
		d.dial = dialTCP
	}
	if u.Scheme == "https" {
		d.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if c.cfg.TLS != nil {
			d.tls = c.cfg.TLS.Clone()
		}
		d.tls.ServerName = cmp.Or(d.tls.ServerName, u.Hostname())
		if d.tls.ClientSessionCache == nil {
			d.tls.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		}
	}
	return d.connect
}

// Close closes the connections that are not in use. A goroutine of fasthttp
// stays until ClientConfig.Idle has passed.
func (c *Client) Close() {
	c.facebook.host.CloseIdleConnections()
	c.instagram.host.CloseIdleConnections()
}

// Send hands a message to the provider and returns the provider's id of it,
// which is empty if the provider took the message without telling one, as it
// does with signals. It takes at most ClientConfig.Timeout, less if ctx ends
// before. An error is a *GraphError, or says why the message can't be encoded
// (*LimitError, *UnsupportedError); see ClassOf.
func (c *Client) Send(ctx context.Context, a Account, o *parley.Outgoing) (string, error) {
	path, body, err := EncodeSend(o, a.Sending)
	if err != nil {
		return "", fmt.Errorf("encode message: %w", err)
	}
	kind := o.Conversation.Channel.Kind
	x := c.exchange(kind, a, path)
	x.contentType, x.body = jsonType, body
	ans, err := x.run(ctx, c.cfg.Timeout)
	if err != nil {
		return "", repeatable(&o.Send, err)
	}
	if a.Heard != nil && ans.usage != (Usage{}) {
		a.Heard(ans.usage)
	}
	if o.Send.Signal != nil || o.Send.Reaction != nil {
		id, err := ans.readAction(kind)
		return id, repeatable(&o.Send, err)
	}
	return ans.read(kind)
}

// exchange is a request to a channel's host, without what it says.
func (c *Client) exchange(kind parley.ChannelKind, a Account, path string) *exchange {
	e := c.facebook
	if kind == parley.Instagram && a.From == "" {
		e = c.instagram
	}
	x := &exchange{endpoint: e, url: e.base + path, token: a.Token}
	if a.Secret != "" {
		x.url += "?appsecret_proof=" + proof(a.Secret, a.Token)
	}
	return x
}

// signalTries is how often a signal is worth trying: it soon says nothing, unless it is
// about who has the thread.
const signalTries = 2

// repeatable is the error of a send that does no harm if it is done twice: a
// signal, or a reaction, which takes the place of the one before. It need not
// be looked for before it is tried again.
func repeatable(send *parley.Send, err error) error {
	g, ok := errors.AsType[*GraphError](err)
	if !ok || send.Signal == nil && send.Reaction == nil {
		return err
	}
	if g.Class == ClassUnknown {
		g.Class = ClassRetry
	}
	if g.Class == ClassRetry && send.Signal != nil && !send.Signal.OfThread() {
		g.Tries = signalTries
	}
	return g
}

// proof is appsecret_proof: the token, signed with the app's secret.
func proof(secret, token string) string {
	m := hmac.New(sha256.New, []byte(secret))
	_, _ = m.Write([]byte(token)) // a hash never fails
	return hex.EncodeToString(m.Sum(nil))
}

// exchange is one request and its answer.
type exchange struct {
	endpoint *endpoint
	url      string
	token    string
	body     []byte
	file     *io.SectionReader // follows the body, if there is one
	tail     []byte            // follows the file

	contentType string
	begun       atomic.Bool // the request may have begun to leave
}

const jsonType = "application/json"

// content is what the request says, from its beginning, and how long it is.
func (x *exchange) content() (io.Reader, int) {
	if x.file == nil {
		return bytes.NewReader(x.body), len(x.body)
	}
	n := x.file.Size()
	whole := io.MultiReader(bytes.NewReader(x.body), io.NewSectionReader(x.file, 0, n), bytes.NewReader(x.tail))
	return whole, len(x.body) + int(n) + len(x.tail)
}

// run makes the exchange. fasthttp can't be interrupted: if ctx ends first, the
// request goes on by itself, at most for limit, and its outcome is unknown.
func (x *exchange) run(ctx context.Context, limit time.Duration) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, &GraphError{Class: ClassRetry, Cause: err}
	}
	// The clock of a socket's deadline is the system's.
	deadline := time.Now().Add(limit) //nolint:forbidigo // the one clock of an exchange
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	type result struct {
		answer *answer
		err    error
	}
	done := make(chan result, 1)
	go func() {
		a, err := x.do(deadline)
		done <- result{a, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
	}
	select { // both at once: the answer counts
	case r := <-done:
		return r.answer, r.err
	default:
		return nil, x.failed(context.Cause(ctx))
	}
}

// do writes the request and reads the answer. A connection that the provider
// has closed while it was unused is found out before anything is written, and
// another is taken.
func (x *exchange) do(deadline time.Time) (*answer, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	var err error
	for range maxStale {
		x.fill(req)
		if err = x.endpoint.host.DoDeadline(req, resp, deadline); !errors.Is(err, errNotWritten) {
			break
		}
		x.begun.Store(false)
		req.Reset()
	}
	if err != nil {
		return nil, x.failed(err)
	}
	return &answer{
		status: resp.StatusCode(),
		body:   bytes.Clone(resp.Body()),
		retry:  string(resp.Header.Peek("Retry-After")),
		usage: ParseUsage(string(resp.Header.Peek("X-App-Usage")), string(resp.Header.Peek("X-Page-Usage")),
			string(resp.Header.Peek("X-Business-Use-Case-Usage"))),
	}, nil
}

func (x *exchange) fill(req *fasthttp.Request) {
	req.SetRequestURI(x.url)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType(x.contentType)
	req.Header.Set("Authorization", "Bearer "+x.token)
	// As a stream, the body tells when it is asked for: not before there is a
	// connection to write it to.
	body, length := x.content()
	req.SetBodyStream(&watchedBody{body: body, begun: &x.begun}, length)
}

// failed is an exchange without an answer.
func (x *exchange) failed(err error) *GraphError {
	if x.begun.Load() {
		return &GraphError{Class: ClassUnknown, Cause: err}
	}
	return &GraphError{Class: ClassRetry, Cause: err}
}

// watchedBody notes that it is being read.
type watchedBody struct {
	body  io.Reader
	begun *atomic.Bool
}

// Read is that of the body.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.begun.Store(true)
	return b.body.Read(p)
}
