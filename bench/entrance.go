package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/ingress"
)

const (
	app  = "bench"
	path = "/webhooks/" + app
	// settleMax is how long the actors may take until nothing is pending.
	settleMax = 2 * time.Minute
)

// channel is the one that bare's messages are written to.
func channel() parley.Channel {
	return parley.Channel{Brand: "bench", Kind: parley.Messenger, ID: bare.Page}
}

// entrance is the body of a process: the part of the line up to the answer, and
// if wanted the actors behind it, on a real store. Nothing is sent.
// It speaks with its parent as [bare.Child] does, and further lines of its input
// are questions, see answer.
type entrance struct {
	place  string // of the store, as openStore takes it
	actors bool
	outbox string // what is sent besides, as [outbox.argument] tells it; empty for nothing
}

// dropped is the Deliverer of an entrance without actors: the rows are durable
// and stay where they are.
type dropped struct{}

// Deliver does nothing.
func (dropped) Deliver([]parley.Pending) {}

func (e entrance) run(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.Join(errors.New("no secret"), lines.Err())
	}
	stored, err := openStore(ctx, e.place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 2)
	start := func(run func(context.Context) error) {
		go func() {
			err := run(ctx)
			stop(err)
			ended <- err
		}()
	}
	var host *actors.Host
	var deliverer ingress.Deliverer = dropped{}
	parts := 1
	if e.actors {
		if host, err = newHost(stored); err != nil {
			return err
		}
		deliverer, parts = host, 2
		start(host.Run)
	}
	var inbox ingress.Inbox = stored
	channels := []parley.Channel{channel()}
	if e.outbox != "" {
		senders, numbers, err := e.senders(ctx, stored)
		if err != nil {
			return err
		}
		parts++
		start(senders.Run)
		inbox, channels = waking{stored, senders}, append(channels, numbers...)
	}
	server, addr, err := newIngress(ctx, ingress.Config{
		Apps: []ingress.App{{Name: app, Secrets: []string{lines.Text()}}}, Inbox: inbox, Quarantine: stored, Deliverer: deliverer,
	}, channels)
	if err != nil {
		return err
	}
	start(server.Run)
	_, err = fmt.Fprintln(out, addr)
	for err == nil && lines.Scan() && ctx.Err() == nil {
		err = answer(ctx, stored, host, lines.Text(), out)
	}
	stop(nil)
	for range parts {
		err = errors.Join(err, <-ended)
	}
	return err
}

// senders are those of the outbox, for its numbers.
func (e entrance) senders(ctx context.Context, stored store) (m *egress.Manager, numbers []parley.Channel, err error) {
	var o outbox
	if err := json.Unmarshal([]byte(e.outbox), &o); err != nil {
		return nil, nil, fmt.Errorf("what is to be sent: %w", err)
	}
	for i := range o.Numbers {
		numbers = append(numbers, number(strconv.Itoa(i)))
	}
	m, err = o.senders(ctx, stored)
	return m, numbers, err
}

func newIngress(ctx context.Context, cfg ingress.Config, channels []parley.Channel) (*ingress.Server, net.Addr, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	cfg.Listener = ln
	server, err := ingress.New(cfg)
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	if err := server.Learn(ctx, app, channels); err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	return server, ln.Addr(), nil
}

// counter is what the bot of an idle conversation remembers.
type counter struct {
	Messages int `json:"messages"`
}

// newHost makes actors of a bot that counts and says nothing: there is nobody to
// send it.
func newHost(stored store) (*actors.Host, error) {
	bot := &parley.Bot{Name: "counter", Behavior: parley.Stateful(func(_ *parley.Turn, c *counter) error {
		c.Messages++
		return nil
	})}
	return actors.New(actors.Config{Store: stored, Agenda: stored, Bot: func(parley.Channel) *parley.Bot { return bot }})
}

// memory is what a process holds.
type memory struct {
	Live   int    `json:"live"`   // conversations
	Heap   uint64 `json:"heap"`   // bytes in use after a collection
	Stacks uint64 `json:"stacks"` // bytes
	RSS    uint64 `json:"rss"`    // bytes of the process in real memory; 0 where nothing tells it
}

// The questions. Each is answered with one line, of JSON.
const (
	askSettled = "settled" // answered with true once nothing is pending
	askMemory  = "memory"
	askHeap    = "heap " // and a file: writes a profile, and answers with true
)

func answer(ctx context.Context, stored store, host *actors.Host, question string, out io.Writer) error {
	var told any = true
	var err error
	switch file, profile := strings.CutPrefix(question, askHeap); {
	case profile:
		err = writeHeap(file)
	case question == askSettled:
		err = settle(ctx, stored)
	case question == askMemory:
		told = readMemory(host)
	default:
		err = fmt.Errorf("unknown question %q", question)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(told)
}

func readMemory(host *actors.Host) (m memory) {
	runtime.GC()         // empties the pools
	debug.FreeOSMemory() // collects what was in them too
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.Heap, m.Stacks, m.RSS = stats.HeapAlloc, stats.StackInuse, residentBytes(os.Getpid())
	if host != nil {
		m.Live = host.Live()
	}
	return m
}

// settle waits until nothing is pending.
func settle(ctx context.Context, stored store) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	for {
		b, err := stored.Backlog(ctx)
		if err != nil {
			return fmt.Errorf("backlog: %w", err)
		}
		if b.Pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d rows are still pending: %w", b.Pending, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

func writeHeap(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return errors.Join(pprof.WriteHeapProfile(file), file.Close())
}

// residentBytes reads what Linux says of a process.
func residentBytes(pid int) uint64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)) // elsewhere there is none
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
