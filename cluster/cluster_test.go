package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/cluster/clustertest"
)

// rig is a cluster in memory, in virtual time.
type rig struct {
	t     *testing.T
	net   *clustertest.Network
	nodes map[int]*node
	keys  [][]byte
}

type node struct {
	*cluster.Cluster
	addr string
	stop func()
}

// in plays in a bubble.
func in(t *testing.T, seed uint64, play func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, net: clustertest.NewNetwork(seed), nodes: map[int]*node{}}
		defer func() { // also if play has failed, as the bubble waits for all
			for _, n := range r.nodes {
				n.stop()
			}
			time.Sleep(time.Minute) // the library's probes end when their time is over
		}()
		play(r)
	})
}

// joining is time enough for members that start together to find each other: who
// misses the news hears of it when full states are exchanged.
const joining = 12 * time.Second

func gossipAddr(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i) }

// start starts member i, which joins others.
func (r *rig) start(i int, join ...int) *node {
	r.t.Helper()
	cfg := cluster.Config{Self: member(i), Transport: r.net.Transport(gossipAddr(i)), Keys: r.keys}
	for _, j := range join {
		cfg.Join = append(cfg.Join, gossipAddr(j))
	}
	c, err := cluster.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	n := &node{Cluster: c, addr: gossipAddr(i)}
	n.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	}
	r.nodes[i] = n
	return n
}

// cut cuts all connections of some with the others, both ways, or mends them.
func (r *rig) cut(do func(from, to string), some ...int) {
	for i, n := range r.nodes {
		for j, o := range r.nodes {
			if slices.Contains(some, i) != slices.Contains(some, j) {
				do(n.addr, o.addr)
			}
		}
	}
}

// names are the numbers of who is there for a node.
func (n *node) names() string {
	var all []string
	for _, m := range n.View().Members() {
		all = append(all, strings.TrimLeft(strings.TrimPrefix(m.Name, "node-"), "0"))
	}
	return strings.Join(all, " ")
}

// within waits until every one of some nodes sees others, and returns how long it took.
func (r *rig) within(limit time.Duration, see string, some ...int) time.Duration {
	r.t.Helper()
	began := time.Now()
	for {
		wrong := ""
		for _, i := range some {
			if got := r.nodes[i].names(); got != see {
				wrong = fmt.Sprintf("%d sees %q", i, got)
			}
		}
		took := time.Since(began)
		if wrong == "" {
			return took
		}
		if took > limit {
			r.t.Fatalf("after %v %s, want %q", took, wrong, see)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
}

// A seed that starts last is found, and whoever joins by one finds all.
func TestJoin(t *testing.T) {
	t.Parallel()
	in(t, 1, func(r *rig) {
		r.start(2, 1)
		r.start(3, 1)
		time.Sleep(time.Minute)
		if r.nodes[2].names() != "2" || r.nodes[3].names() != "3" {
			t.Fatal("they found each other without the seed")
		}
		r.start(1)
		r.within(joining, "1 2 3", 1, 2, 3)
		for shard := range uint16(cluster.Shards) {
			one, _ := r.nodes[1].View().Owner(cluster.Actors, shard)
			three, _ := r.nodes[3].View().Owner(cluster.Actors, shard)
			if one.Name != three.Name {
				t.Fatalf("shard %d: %s or %s", shard, one.Name, three.Name)
			}
		}
	})
}

// One that falls silent is missed within seconds; one that says good-bye, at once.
func TestLoss(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		in(t, seed, func(r *rig) {
			for i := 1; i <= 4; i++ {
				r.start(i, 1)
			}
			r.within(joining, "1 2 3 4", 1, 2, 3, 4)
			r.cut(r.net.Cut, 4)
			took := r.within(joining, "1 2 3", 1, 2, 3)
			t.Logf("seed %d: silence noticed after %v", seed, took)
			began := time.Now()
			r.nodes[3].stop()
			r.nodes[3].stop = func() {}
			took = r.within(time.Second, "1 2", 1, 2)
			t.Logf("seed %d: good-bye heard after %v, said within %v", seed, took, time.Since(began))
		})
	}
}

// Two halves that were apart for longer than gossip remembers find each other by
// themselves, though the seed by which they had met is long gone.
func TestPartitionHeals(t *testing.T) {
	t.Parallel()
	in(t, 3, func(r *rig) {
		r.start(5)
		for i := 1; i <= 4; i++ {
			r.start(i, 5)
		}
		r.within(joining, "1 2 3 4 5", 1, 2, 3, 4)
		r.nodes[5].stop()
		delete(r.nodes, 5)
		r.within(time.Second, "1 2 3 4", 1, 2, 3, 4)
		r.cut(r.net.Cut, 1, 2)
		r.within(6*time.Second, "1 2", 1, 2)
		r.within(6*time.Second, "3 4", 3, 4)
		time.Sleep(5 * time.Minute)
		r.cut(r.net.Mend, 1, 2)
		r.within(20*time.Second, "1 2 3 4", 1, 2, 3, 4)
	})
}

// Losing every tenth packet and connection, and slow packets, costs nobody its place for long.
func TestTrouble(t *testing.T) {
	t.Parallel()
	in(t, 4, func(r *rig) {
		for i := 1; i <= 5; i++ {
			r.start(i, 1)
		}
		r.within(joining, "1 2 3 4 5", 1, 2, 3, 4, 5)
		r.net.Trouble(0.1, 40*time.Millisecond)
		wrong := 0
		const looks = 600
		for range looks {
			time.Sleep(100 * time.Millisecond)
			for _, n := range r.nodes {
				if n.names() != "1 2 3 4 5" {
					wrong++
				}
			}
		}
		share := float64(wrong) / (looks * 5)
		t.Logf("%.2f %% of views were wrong", 100*share)
		if share > 0.05 {
			t.Errorf("%.1f %% of views were wrong", 100*share)
		}
		r.net.Trouble(0, 0)
		r.within(10*time.Second, "1 2 3 4 5", 1, 2, 3, 4, 5)
	})
}

// Who drains says so to all, and owns nothing any more.
func TestDrain(t *testing.T) {
	t.Parallel()
	in(t, 5, func(r *rig) {
		r.start(1)
		r.start(2, 1)
		r.start(3, 1)
		r.within(joining, "1 2 3", 1, 2, 3)
		r.nodes[2].Drain()
		r.nodes[2].Drain()
		time.Sleep(time.Second)
		for i, n := range r.nodes {
			v := n.View()
			if m, ok := v.Member("node-002"); !ok || !m.Draining {
				t.Errorf("%d sees %+v", i, m)
			}
			if owned := len(v.Owned(cluster.Actors, "node-002")); owned != 0 {
				t.Errorf("for %d, who drains owns %d shards", i, owned)
			}
		}
	})
}

// Who can't work owns nothing for as long as others can, and then again.
func TestFit(t *testing.T) {
	t.Parallel()
	in(t, 8, func(r *rig) {
		r.start(1)
		r.start(2, 1)
		r.within(joining, "1 2", 1, 2)
		owned := func(want int) {
			time.Sleep(time.Second)
			for i, n := range r.nodes {
				if got := len(n.View().Owned(cluster.Actors, "node-002")); (got > 0) != (want > 0) {
					t.Errorf("for %d, node 2 owns %d shards", i, got)
				}
			}
		}
		owned(1)
		r.nodes[2].Fit(false)
		owned(0)
		r.nodes[1].Fit(false) // nobody is better
		owned(1)
		r.nodes[1].Fit(true)
		r.nodes[2].Fit(true)
		owned(1)
	})
}

// A process that comes back at its address is there at once, while its earlier run
// is still being suspected.
func TestReturn(t *testing.T) {
	t.Parallel()
	in(t, 6, func(r *rig) {
		r.start(1)
		r.start(2, 1)
		r.within(joining, "1 2", 1, 2)
		r.cut(r.net.Cut, 2)
		time.Sleep(200 * time.Millisecond)
		r.cut(r.net.Mend, 2)
		later := member(2)
		later.Name = "node-002b"
		c, err := cluster.New(cluster.Config{Self: later, Transport: r.net.Transport(gossipAddr(2)), Join: []string{gossipAddr(1)}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(r.t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		r.within(time.Second, "1 2b", 1) // before the silence of the earlier run could be noticed
		time.Sleep(time.Minute)
		r.within(0, "1 2b", 1)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The newest view is there for whoever looks late, and none is sent twice.
func TestWatch(t *testing.T) {
	t.Parallel()
	in(t, 7, func(r *rig) {
		ctx, cancel := context.WithCancel(r.t.Context())
		n := r.start(1)
		watch := n.Watch(ctx)
		if v := <-watch; len(v.Members()) != 1 {
			t.Fatalf("the first view has %d members", len(v.Members()))
		}
		r.start(2, 1)
		r.start(3, 1)
		r.within(joining, "1 2 3", 1)
		if v := <-watch; len(v.Members()) != 3 || v != n.View() {
			t.Errorf("the newest view has %d members", len(v.Members()))
		}
		time.Sleep(time.Minute)
		select {
		case <-watch:
			t.Error("a view without a change")
		default:
		}
		cancel()
		synctest.Wait()
		r.nodes[3].stop()
		r.nodes[3].stop = func() {}
		r.within(2*time.Second, "1 2", 1)
		if len(watch) != 0 {
			t.Error("a view after the end")
		}
	})
}

func key(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }

// Who hasn't the key is nobody, and a key is changed while all go on.
func TestKeys(t *testing.T) {
	t.Parallel()
	in(t, 8, func(r *rig) {
		r.keys = [][]byte{key('a')}
		r.start(1)
		r.start(2, 1)
		r.within(joining, "1 2", 1, 2)
		r.keys = [][]byte{key('x')}
		r.start(3, 1)
		r.keys = nil
		r.start(4, 1)
		time.Sleep(time.Minute)
		r.within(0, "1 2", 1, 2)
		for _, keys := range [][][]byte{{key('a'), key('b')}, {key('b'), key('a')}, {key('b')}} {
			for _, i := range []int{1, 2} {
				if err := r.nodes[i].UseKeys(keys); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				r.within(0, "1 2", 1, 2)
			}
		}
		r.keys = [][]byte{key('a'), key('b')}
		r.start(5, 1)
		r.keys = [][]byte{key('b')}
		r.start(6, 1)
		r.within(joining, "1 2 6", 1, 2, 6)
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			if r.nodes[5].names() != "5" || r.nodes[1].names() != "1 2 6" {
				t.Fatal("the old key still opens")
			}
		}
		if err := r.nodes[4].UseKeys(r.keys); err == nil {
			t.Error("a plain cluster takes keys into use")
		}
		if err := r.nodes[1].UseKeys(nil); err == nil {
			t.Error("an encrypted cluster gives its keys up")
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*cluster.Config){
		"no name":            func(c *cluster.Config) { c.Self.Name = "" },
		"a name with spaces": func(c *cluster.Config) { c.Self.Name = "a b" },
		"a long name":        func(c *cluster.Config) { c.Self.Name = strings.Repeat("x", 200) },
		"no address":         func(c *cluster.Config) { c.Self.Addr = "" },
		"no port":            func(c *cluster.Config) { c.Self.Addr = "10.0.0.1" },
		"a strange role":     func(c *cluster.Config) { c.Self.Roles = []cluster.Role{"actor"} },
		"a long version":     func(c *cluster.Config) { c.Self.Version = strings.Repeat("x", 600) },
		"bind":               func(c *cluster.Config) { c.Bind = "7946" },
		"advertise":          func(c *cluster.Config) { c.Advertise = "host:http" },
		"join":               func(c *cluster.Config) { c.Join = []string{"10.0.0.1:7946", "10.0.0.2"} },
		"a short key":        func(c *cluster.Config) { c.Keys = [][]byte{[]byte("short")} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cluster.Config{Self: member(1)}
			if _, err := cluster.New(cfg); err != nil {
				t.Fatal(err)
			}
			spoil(&cfg)
			if _, err := cluster.New(cfg); err == nil {
				t.Error("taken")
			}
		})
	}
}

// Over real sockets, by a name, and over IPv6 where there is any.
func TestRealNetwork(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			one, two := freeAddress(t, host), freeAddress(t, host)
			seed := one
			if host == "127.0.0.1" {
				_, port, _ := strings.Cut(one, ":")
				seed = "localhost:" + port
			}
			first, stopFirst := run(t, cluster.Config{Self: member(1), Bind: one})
			defer stopFirst()
			second, stopSecond := run(t, cluster.Config{Self: member(2), Bind: two, Join: []string{seed}})
			await(t, func() bool { return len(first.View().Members()) == 2 && len(second.View().Members()) == 2 })
			stopSecond()
			await(t, func() bool { return len(first.View().Members()) == 1 })
		})
	}
}
