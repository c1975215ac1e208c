// Package clustertest is a network in memory for members of a cluster. It loses,
// delays and cuts what they send each other, by a seed. It works in a bubble of
// testing/synctest, so that minutes of gossip take moments.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	packets = 1024 // that wait for a member; beyond, they are lost, as UDP's are
	streams = 64
)

// Network connects transports.
type Network struct {
	mu    sync.Mutex
	rand  *rand.Rand
	there map[string]*Transport
	cut   map[[2]string]bool // from, to
	loss  float64
	delay time.Duration
}

// NewNetwork makes one without faults.
func NewNetwork(seed uint64) *Network {
	return &Network{rand: rand.New(rand.NewPCG(seed, seed)), there: map[string]*Transport{}, cut: map[[2]string]bool{}} //nolint:gosec // chance that can be repeated
}

// Transport is the network's end at an address, ip:port. A transport that has been
// shut down leaves it to another.
func (n *Network) Transport(addr string) *Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &Transport{
		net: n, addr: addr, done: make(chan struct{}),
		packets: make(chan *memberlist.Packet, packets), streams: make(chan net.Conn, streams),
	}
	n.there[addr] = t
	return t
}

// Cut stops what one address sends to another, in this direction only.
func (n *Network) Cut(from, to string) { n.set(from, to, true) }

// Mend makes an end of Cut.
func (n *Network) Mend(from, to string) { n.set(from, to, false) }

func (n *Network) set(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = cut
}

// Trouble has every packet, and every attempt to connect, lost with a probability,
// and packets delayed by up to d.
func (n *Network) Trouble(loss float64, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.delay = loss, d
}

// route finds the other end; nil if what is sent there gets lost.
func (n *Network) route(from, to string) (t *Transport, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]string{from, to}] || n.rand.Float64() < n.loss {
		return nil, 0
	}
	if n.delay > 0 {
		after = time.Duration(n.rand.Int64N(int64(n.delay)))
	}
	return n.there[to], after
}

// Transport is a memberlist.NodeAwareTransport.
type Transport struct {
	net     *Network
	addr    string
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

// FinalAdvertiseAddr is the transport's address, whatever was asked for.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, text, err := net.SplitHostPort(t.addr)
	if err != nil {
		return nil, 0, fmt.Errorf("address of the transport: %w", err)
	}
	port, err := strconv.Atoi(text)
	return net.ParseIP(host), port, err
}

// WriteTo sends a packet, or loses it.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	to, after := t.net.route(t.addr, addr)
	if to == nil || t.closed() {
		return now, nil
	}
	deliver := func() {
		select {
		case to.packets <- &memberlist.Packet{Buf: b, From: addrOf(t.addr), Timestamp: time.Now()}:
		default:
		}
	}
	if after == 0 {
		deliver()
	} else {
		time.AfterFunc(after, deliver)
	}
	return now, nil
}

// WriteToAddress sends a packet.
func (t *Transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// PacketCh is where packets arrive.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

var errRefused = errors.New("connection refused")

// DialTimeout connects. What is cut takes all the time.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, _ := t.net.route(t.addr, addr)
	back, _ := t.net.route(addr, t.addr)
	switch {
	case to == nil && t.net.knows(addr), back == nil:
		time.Sleep(timeout)
		return nil, context.DeadlineExceeded
	case to == nil || to.closed() || t.closed():
		return nil, errRefused
	}
	near, far := net.Pipe()
	select {
	case to.streams <- far:
		return near, nil
	default:
		return nil, errRefused
	}
}

func (n *Network) knows(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.there[addr] != nil
}

// DialAddressTimeout connects.
func (t *Transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// StreamCh is where connections arrive.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown ends it.
func (t *Transport) Shutdown() error {
	t.once.Do(func() { close(t.done) })
	return nil
}

func (t *Transport) closed() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

type addrOf string

func (a addrOf) Network() string { return "memory" }
func (a addrOf) String() string  { return string(a) }
