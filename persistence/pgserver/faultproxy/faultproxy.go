// Package faultproxy stands between a PostgreSQL server and its clients and
// breaks what is between them: it refuses connections, swallows what is sent,
// cuts, is slow, or loses the answer to a commit. It is for tests.
//
// It listens on a port, of the loopback if not told otherwise, and forwards to a socket or an address.
// It reads the messages of the protocol, so there is no encryption through it: a
// client that asks for that hears that the server has none.
//
// A Proxy may be used by several goroutines.
package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	dialMax = 10 * time.Second // to reach the server
	loseMax = 30 * time.Second // for the server to answer what the client won't hear
)

type mode int

const (
	passing mode = iota
	hanging
	refusing
)

// Proxy forwards connections to one server.
type Proxy struct {
	listener net.Listener
	network  string
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex
	mode   mode
	closed bool
	open   chan struct{} // closed unless hanging
	links  map[*link]struct{}
	lose   func([]Message) bool
	left   int // answers still to be lost
	lost   int
	slow   time.Duration // before each round trip
}

// New starts a proxy on the loopback in front of a server: a path is that of a
// socket, anything else host:port. ctx is for listening only; Close ends it.
func New(ctx context.Context, target string) (*Proxy, error) {
	return Listen(ctx, "127.0.0.1:0", target)
}

// Listen is New for a proxy that listens at an address, host:port.
func Listen(ctx context.Context, at, target string) (*Proxy, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp4", at)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{listener: listener, network: "tcp", target: target, open: make(chan struct{}), links: map[*link]struct{}{}}
	if strings.HasPrefix(target, "/") {
		p.network = "unix"
	}
	close(p.open)
	ctx = context.WithoutCancel(ctx)
	p.running.Go(func() { p.accept(ctx) })
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is a connection URL of the server, as it is through the proxy.
func (p *Proxy) URL(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", errors.New("connection string: not a URL") // it may hold a password, and the error holds it
	}
	query := u.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = p.Addr(), query.Encode()
	return u.String(), nil
}

// Pass forwards everything, which is how a proxy begins. What was swallowed by
// Hang is forwarded now.
func (p *Proxy) Pass() { p.set(passing) }

// Refuse breaks new connections at once; those that there are go on.
func (p *Proxy) Refuse() { p.set(refusing) }

// Hang accepts connections and forwards nothing any more, on no connection and
// in no direction, and tells nobody.
func (p *Proxy) Hang() { p.set(hanging) }

// Slow makes each round trip take d longer, from the next one on; 0 makes an end
// of it. It is a slow database, not one that is far away: what a client sends at
// once is delayed once.
func (p *Proxy) Slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = d
}

// drag waits for as long as a round trip is delayed; it is false if the connection
// was cut.
func (p *Proxy) drag(l *link) bool {
	p.mu.Lock()
	d := p.slow
	p.mu.Unlock()
	if d <= 0 {
		return true
	}
	over := time.NewTimer(d) //nolint:forbidigo // it is what this is for
	defer over.Stop()
	select {
	case <-l.done:
		return false
	case <-over.C:
		return true
	}
}

func (p *Proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.mode == m {
		return
	}
	if p.mode == hanging {
		close(p.open)
	}
	if m == hanging {
		p.open = make(chan struct{})
	}
	p.mode = m
}

// Cut breaks all connections that there are, and says how many.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
	return len(p.links)
}

// LoseAnswers breaks the connection of each of the next n round trips that the
// function picks, after the server has answered and before the client hears of
// it. The function sees what the client has sent since the end of the last round
// trip, up to the Query or the Sync that ends this one. It must not keep it, nor
// call the proxy.
func (p *Proxy) LoseAnswers(n int, of func(sent []Message) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.lose = n, of
}

// Lost is how many answers were lost so far.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// loses decides about a round trip.
func (p *Proxy) loses(sent []Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 || p.lose == nil || !p.lose(sent) {
		return false
	}
	p.left--
	return true
}

func (p *Proxy) countLost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost++
}

// Close breaks everything, and returns when nothing of the proxy is left.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Pass()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
	p.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // a second Close
	}
	return err
}

// accept takes connections until the listener is closed.
func (p *Proxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := newLink(client)
		if !p.add(l) {
			l.cut()
			continue
		}
		p.running.Go(func() {
			defer p.remove(l)
			p.serve(ctx, l)
		})
	}
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.mode == refusing {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	l.cut()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// serve forwards one connection in both directions until either side ends it.
func (p *Proxy) serve(ctx context.Context, l *link) {
	if !p.gate(l) {
		return
	}
	dialer := net.Dialer{Timeout: dialMax}
	server, err := dialer.DialContext(ctx, p.network, p.target)
	if err != nil || !l.join(server) {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		defer close(l.answersEnd)
		defer l.cut()
		p.answers(l)
	})
	p.requests(l)
	l.cut()
	answers.Wait()
}

// gate waits while the proxy hangs; it is false if the connection was cut.
func (p *Proxy) gate(l *link) bool {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-l.done:
		return false
	case <-open:
		return true
	}
}
