package ingress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

var (
	errDead   = errors.New("the machine is off")
	errBroken = errors.New("input/output error")
)

// platter is a disk in memory that forgets what was not synced when its machine
// loses power: of what was written since the last fsync of a file a part may be
// left, or zeros; of what happened in the folder since its last fsync any part.
type platter struct {
	mu     sync.Mutex
	rng    *rand.Rand
	files  map[string]*inode
	kept   map[string]*inode // the folder as it was synced last
	locked bool
	free   uint64
	ops    int
	dieAt  int      // the power goes in this operation; 0: never
	after  *platter // what is left then
	// fault, if set, may have an operation fail. A write that fails has been done
	// in part, an fsync that fails has done nothing.
	fault func(op, name string) error
	slow  time.Duration // what an fsync takes
	// abused are the files that were written again after such a failure.
	abused []string
}

type inode struct {
	data, synced []byte
	failed       bool // a write or an fsync of it failed
}

func newPlatter(seed uint64) *platter {
	return &platter{
		rng: rand.New(rand.NewPCG(seed, 9)), files: map[string]*inode{}, kept: map[string]*inode{}, free: 1 << 40,
	}
}

// loss is what is left if the power goes now.
func (p *platter) loss() *platter {
	q := newPlatter(p.rng.Uint64())
	names := maps.Clone(p.kept)
	maps.Copy(names, p.files)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ino := p.kept[name]
		if p.rng.IntN(2) == 0 { // a change of the folder may have got through
			ino = p.files[name]
		}
		if ino != nil {
			data := p.remains(ino)
			q.files[name] = &inode{data: data, synced: bytes.Clone(data)}
		}
	}
	q.kept = maps.Clone(q.files)
	return q
}

func (p *platter) remains(ino *inode) []byte {
	more := len(ino.data) - len(ino.synced)
	if more <= 0 {
		return bytes.Clone(ino.synced)
	}
	data := bytes.Clone(ino.data)
	cut := len(ino.synced) + p.rng.IntN(more+1)
	if p.rng.IntN(3) == 0 {
		clear(data[cut:])
		return data
	}
	return data[:cut]
}

// powerOff ends the machine; what is left is returned.
func (p *platter) powerOff() *platter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.after == nil {
		p.after = p.loss()
	}
	return p.after
}

func (p *platter) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after != nil
}

// op begins an operation; p.mu is held.
func (p *platter) op(kind, name string) error {
	if p.after != nil {
		return errDead
	}
	if p.fault != nil {
		if err := p.fault(kind, name); err != nil {
			return err
		}
	}
	return nil
}

// done ends one that changed something; it is the last if the power goes.
func (p *platter) done() error {
	if p.ops++; p.ops == p.dieAt {
		p.after = p.loss()
		return errDead
	}
	return nil
}

func (p *platter) change(kind, name string, f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.op(kind, filepath.Base(name)); err != nil {
		return err
	}
	return errors.Join(f(), p.done())
}

func (p *platter) Lock(string) (io.Closer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.locked {
		return nil, parley.ErrLocked
	}
	p.locked = true
	return closer(func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.locked = false
		return nil
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }

func (p *platter) List(string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.files)), p.op("list", "")
}

func (p *platter) Create(name string) (ingress.SpoolFile, error) { //nolint:ireturn // SpoolDisk has it so
	base := filepath.Base(name)
	ino := &inode{}
	err := p.change("create", name, func() error {
		if p.files[base] != nil {
			return fs.ErrExist
		}
		p.files[base] = ino
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &handle{p, base, ino}, nil
}

func (p *platter) Open(name string) (ingress.SpoolFile, error) { //nolint:ireturn // SpoolDisk has it so
	p.mu.Lock()
	defer p.mu.Unlock()
	base := filepath.Base(name)
	if err := p.op("open", base); err != nil {
		return nil, err
	}
	ino := p.files[base]
	if ino == nil {
		return nil, fs.ErrNotExist
	}
	return &handle{p, base, ino}, nil
}

func (p *platter) Rename(from, to string) error {
	return p.change("rename", from, func() error {
		if p.files[filepath.Base(from)] == nil {
			return fs.ErrNotExist
		}
		p.files[filepath.Base(to)] = p.files[filepath.Base(from)]
		delete(p.files, filepath.Base(from))
		return nil
	})
}

func (p *platter) Remove(name string) error {
	return p.change("remove", name, func() error {
		if p.files[filepath.Base(name)] == nil {
			return fs.ErrNotExist
		}
		delete(p.files, filepath.Base(name))
		return nil
	})
}

func (p *platter) SyncDir(dir string) error {
	return p.change("syncdir", dir, func() error {
		p.kept = maps.Clone(p.files)
		return nil
	})
}

func (p *platter) Free(string) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.free
	for _, ino := range p.files {
		free -= min(free, uint64(len(ino.data)))
	}
	return free, p.op("free", "")
}

// names are those of the files with a prefix.
func (p *platter) names(prefix string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name := range p.files {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (p *platter) setFault(f func(op, name string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// edit changes a file behind everybody's back.
func (p *platter) edit(name string, f func([]byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ino := p.files[name]
	ino.data = f(bytes.Clone(ino.data))
	ino.synced = bytes.Clone(ino.data)
}

type handle struct {
	disk *platter
	name string
	ino  *inode
}

func (h *handle) ReadAt(b []byte, at int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.disk.op("read", h.name); err != nil {
		return 0, err
	}
	if at >= int64(len(h.ino.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.ino.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(b []byte, at int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	failed := h.disk.op("write", h.name)
	if errors.Is(failed, errDead) {
		return 0, failed
	}
	if h.ino.failed {
		h.disk.abused = append(h.disk.abused, h.name)
	}
	if failed != nil {
		b, h.ino.failed = b[:len(b)/2], true
	}
	if missing := int(at) + len(b) - len(h.ino.data); missing > 0 {
		h.ino.data = append(h.ino.data, make([]byte, missing)...)
	}
	copy(h.ino.data[at:], b)
	return len(b), errors.Join(failed, h.disk.done())
}

func (h *handle) Sync() error {
	if h.disk.slow > 0 {
		time.Sleep(h.disk.slow)
	}
	err := h.disk.change("sync", h.name, func() error {
		h.ino.synced = append(h.ino.synced, h.ino.data[len(h.ino.synced):]...) // nobody changes what was synced
		return nil
	})
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.ino.failed = h.ino.failed || err != nil
	return err
}

func (h *handle) Truncate(size int64) error {
	return h.disk.change("truncate", h.name, func() error {
		h.ino.data = h.ino.data[:size]
		return nil
	})
}

func (h *handle) Size() (int64, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return int64(len(h.ino.data)), h.disk.op("size", h.name)
}

func (*handle) Close() error { return nil }

// base is a database that may not answer. Its rows are what was appended, in
// order; an event that was appended twice has two.
type base struct {
	mu     sync.Mutex
	fault  fault
	rows   []parley.Event
	quar   []parley.Quarantined
	receip []parley.Receipt
	calls  []call
	inside int // calls that have not returned
	most   int
	takes  time.Duration
	each   time.Duration // for each update
	thaw   chan struct{} // ends deaf calls

	lenient bool // takes poison, too
}

type call struct {
	at      time.Time
	updates int
}

// fault is what the database does instead of answering.
type fault int

const (
	healthy fault = iota
	hangs         // doesn't answer until the context ends
	deaf          // doesn't answer, whatever the context does
	before        // is unavailable, and has not done it
	after         // is unavailable, and has done it
	mute          // does it, and doesn't answer
	full
	broken // refuses everything for another reason
)

// poison begins the texts that the database refuses.
const poison = "poison"

var errData = errors.New("invalid byte sequence")

func newBase() *base { return &base{thaw: make(chan struct{})} }

func (d *base) set(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

func (d *base) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	d.mu.Lock()
	f, takes := d.fault, d.takes+d.each*time.Duration(len(a.Events))
	d.inside++
	d.most = max(d.most, d.inside)
	d.calls = append(d.calls, call{time.Now(), len(a.Events) + len(a.Receipts) + len(a.Quarantined)})
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.inside--
		d.mu.Unlock()
	}()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch f {
	case healthy:
		return d.take(a)
	case hangs:
		<-ctx.Done()
		return nil, fmt.Errorf("append: %w", ctx.Err())
	case deaf:
		<-d.thaw
		return d.take(a)
	case before:
		return nil, fmt.Errorf("append: %w", parley.ErrUnavailable)
	case after:
		_, err := d.take(a)
		return nil, errors.Join(err, parley.ErrUnavailable)
	case mute:
		_, _ = d.take(a)
		<-ctx.Done()
		return nil, ctx.Err()
	case full:
		return nil, parley.ErrFull
	case broken:
	}
	return nil, errDisk
}

func (d *base) take(a parley.Arrivals) ([]parley.Pending, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := make([]parley.Pending, len(a.Events))
	for i, e := range a.Events {
		if strings.HasPrefix(textOf(e), poison) && !d.lenient {
			return nil, errData
		}
		rows[i] = parley.Pending{Key: e.Key, Late: e.Late, Input: e.Input, Conversation: parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}}
	}
	d.rows = append(d.rows, a.Events...)
	d.receip = append(d.receip, a.Receipts...)
	d.quar = append(d.quar, a.Quarantined...)
	return rows, nil
}

func (d *base) Quarantined(_ context.Context, _ parley.App, _ parley.Channel, after parley.ID, _ int) ([]parley.Quarantined, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !after.IsZero() {
		return nil, nil
	}
	return slices.Clone(d.quar), nil
}

func (d *base) Release(ctx context.Context, _ []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	return d.Append(ctx, a)
}

func textOf(e parley.Event) string {
	m, _ := e.Input.(parley.Message)
	return m.Text
}

// texts are what was taken, each once, in the order of its first time.
func (d *base) texts() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := map[parley.EventKey]bool{}
	var texts []string
	for _, e := range d.rows {
		if !seen[e.Key] {
			texts = append(texts, textOf(e))
		}
		seen[e.Key] = true
	}
	return texts
}

func (d *base) look(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// say is a message, or several, of one contact.
func say(texts ...string) parley.Arrivals {
	var a parley.Arrivals
	for _, text := range texts {
		a.Events = append(a.Events, parley.Event{
			Channel: waChannel(), Contacts: []parley.Contact{"phone:4912"},
			Key: parley.NewEventKey("message", text), Input: parley.Message{Text: text},
		})
	}
	return a
}

// spoolRig is a spool before a database, over a disk in memory.
type spoolRig struct {
	*ingress.Spool
	base *base
	disk *platter
	cfg  ingress.SpoolConfig
	stop func()
}

// openSpool opens one; Run runs until stop, or the test's end.
func openSpool(tb testing.TB, disk *platter, db *base, adjust ...func(*ingress.SpoolConfig)) *spoolRig {
	tb.Helper()
	g := &spoolRig{base: db, disk: disk, cfg: ingress.SpoolConfig{Inbox: db, Quarantine: db, Dir: "spool", Disk: disk}}
	for _, f := range adjust {
		f(&g.cfg)
	}
	var err error
	if g.Spool, err = ingress.OpenSpool(g.cfg); err != nil {
		tb.Fatal(err)
	}
	g.stop = func() {}
	return g
}

func (g *spoolRig) run(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := g.Run(ctx); err != nil {
			tb.Errorf("Run: %v", err)
		}
	}()
	g.stop = sync.OnceFunc(func() { cancel(); <-ended })
	tb.Cleanup(g.stop)
}

func (g *spoolRig) append(tb testing.TB, texts ...string) []parley.Pending {
	tb.Helper()
	rows, err := g.Append(tb.Context(), say(texts...))
	if err != nil {
		tb.Fatalf("append %q: %v", texts, err)
	}
	return rows
}
