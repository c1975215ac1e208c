package cluster

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// roll is what gossip has told. Its methods that the library calls are called with
// the library's locks held, and with nodes that it goes on changing: they copy what
// they need and raise a flag, nothing else.
type roll struct {
	metrics *metrics
	log     *slog.Logger
	changed chan struct{} // holds a word if something has changed

	mu     sync.Mutex
	self   Member
	others map[string]heard     // by name
	lost   map[string]time.Time // gossip addresses of who went without good-bye
}

// heard is a member and where it gossips.
type heard struct {
	Member
	gossip string
}

func newRoll(self Member, m *metrics, log *slog.Logger) *roll {
	return &roll{
		self: self, metrics: m, log: log, changed: make(chan struct{}, 1),
		others: map[string]heard{}, lost: map[string]time.Time{},
	}
}

// flag says that something has changed.
func (r *roll) flag() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// change changes what this member tells of itself, and reports whether that is news.
func (r *roll) change(do func(*Member)) bool {
	r.mu.Lock()
	before := r.self
	do(&r.self)
	news := !before.equal(&r.self)
	r.mu.Unlock()
	if news {
		r.flag()
	}
	return news
}

// members are all that are there.
func (r *roll) members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []Member{r.self}
	for _, o := range r.others {
		all = append(all, o.Member)
	}
	return all
}

// alone reports whether nobody else is there.
func (r *roll) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.others) == 0
}

// absent are those of the addresses, and of the lost, that no member gossips at.
func (r *roll) absent(addrs []string, now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for addr, since := range r.lost {
		if now.Sub(since) > lostFor {
			delete(r.lost, addr)
			continue
		}
		addrs = append(addrs, addr)
	}
	present := map[string]bool{}
	for _, o := range r.others {
		present[o.gossip] = true
	}
	slices.Sort(addrs)
	return slices.DeleteFunc(slices.Compact(addrs), func(a string) bool { return present[a] })
}

// NotifyJoin is the library's.
func (r *roll) NotifyJoin(n *memberlist.Node) { r.note(n) }

// NotifyUpdate is the library's.
func (r *roll) NotifyUpdate(n *memberlist.Node) { r.note(n) }

func (r *roll) note(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Name == r.self.Name {
		return
	}
	m, err := hear(n.Name, n.Meta)
	if err != nil {
		// It may be of a later program; this one can't work with it.
		r.metrics.unreadable.Inc()
		r.log.Warn("a member is left out", slog.String("member", n.Name), slog.Any("error", err))
		delete(r.others, n.Name)
	} else {
		r.others[n.Name] = heard{m, n.Address()}
		delete(r.lost, n.Address())
	}
	r.flag()
}

// NotifyLeave is the library's: somebody said good-bye, or doesn't answer.
func (r *roll) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.others, n.Name)
	if n.Name != r.self.Name && n.State != memberlist.StateLeft {
		r.metrics.lost.Inc()
		r.lose(n.Address())
	}
	r.flag()
}

// lose remembers an address.
func (r *roll) lose(addr string) {
	if len(r.lost) >= lostMax {
		first := addr
		for a, since := range r.lost {
			if first == addr || since.Before(r.lost[first]) {
				first = a
			}
		}
		delete(r.lost, first)
	}
	r.lost[addr] = time.Now() //nolint:forbidigo // gossip lives by the clock
}

// NotifyConflict is the library's: two processes say that they are the same.
func (r *roll) NotifyConflict(existing, other *memberlist.Node) {
	r.metrics.conflicts.Inc()
	r.log.Error("two members have one name; give each process its own",
		slog.String("name", existing.Name), slog.String("one", existing.Address()), slog.String("other", other.Address()))
}

// NodeMeta is the library's: what this member tells of itself.
func (r *roll) NodeMeta(int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := r.self.tell()
	if err != nil {
		return nil // Validate has seen to it
	}
	return b
}

// The library has more to offer than is used here.

// NotifyMsg ignores messages of members: of a later program, maybe.
func (r *roll) NotifyMsg([]byte) {}

// GetBroadcasts has none.
func (r *roll) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is nothing beside what the library knows.
func (r *roll) LocalState(bool) []byte { return nil }

// MergeRemoteState ignores a later program's.
func (r *roll) MergeRemoteState([]byte, bool) {}
