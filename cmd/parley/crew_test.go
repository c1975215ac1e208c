package main_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
)

// The faults that a cluster survives: three nodes on one database, Meta's posts
// through HAProxy, real processes and signals, under load, judged from outside. After
// each the verdict is clean, without a hand.

// upset is one kind of trouble of a cluster.
type upset struct {
	name    string
	inflict func(*crew)
	apart   bool   // each node has a network of its own
	proxied bool   // the first node's way to the database leads through a proxy
	empty   bool   // no node is started before
	small   bool   // the first node's disk is small
	on      *fault // what there is to the scene, if it is more than a name
}

func upsets() []upset {
	return append([]upset{
		{name: "MembersKilled", inflict: membersKilled},
		{name: "MemberFrozen", inflict: memberFrozen},
		{name: "AllRestarted", inflict: allRestarted},
		{name: "SeedLast", inflict: seedLast, empty: true},
		{name: "Upgraded", inflict: upgraded},
		{name: "Joined", inflict: joined},
		{name: "DatabaseLost", inflict: databaseLost, proxied: true},
		{name: "Partitioned", inflict: partitioned, apart: true},
		{name: "HeardByNobody", inflict: heardByNobody, apart: true},
	}, diskUpsets()...)
}

// TestChaosOfCluster inflicts all of them, as TestChaos does with those of the
// database.
func TestChaosOfCluster(t *testing.T) {
	t.Parallel()
	if *chaos != "short" && *chaos != "long" {
		t.Skip("make chaos-short, which make check does, and make chaos-cluster inflict the faults")
	}
	b := &board{}
	t.Cleanup(func() { t.Logf("\n%s", b) })
	s := newStage(1)
	for _, u := range upsets() {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			s.play(t, func(t *testing.T) result {
				t.Helper()
				r := newCrew(t, u).play()
				b.add(r)
				return r
			})
		})
	}
}

const crewSize = 3

// crew is three nodes behind a proxy.
type crew struct {
	*scene

	upset   upset
	spaces  *clustertest.Namespaces
	houses  [crewSize]house
	configs [crewSize]configuration
	nodes   [crewSize]*instance
	rng     *rand.Rand
}

func newCrew(t *testing.T, u upset) *crew {
	t.Helper()
	c := &crew{upset: u, rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))}
	listen := ""
	if u.apart {
		spaces, err := clustertest.NewNamespaces(t.Context(), crewSize)
		if err != nil {
			t.Skipf("SKIPPED, NOT TESTED: %v", err)
		}
		t.Cleanup(func() {
			if err := spaces.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Log(err)
			}
		})
		c.spaces, listen = spaces, net.JoinHostPort(spaces.Here(), "0")
	}
	// Posts that were with a node that goes are not answered.
	f := fault{name: u.name, refuses: true}
	if u.on != nil {
		f = *u.on
	}
	c.scene = newSceneAt(t, f, listen)
	for i := range crewSize {
		c.furnish(i)
	}
	for i := range crewSize { // only the first is told to them, so that this one matters
		c.configs[i] = c.configs[i].joining(c.configs[0])
	}
	return c
}

// furnish makes a node's folder and gives it its addresses.
func (c *crew) furnish(i int) {
	c.Helper()
	h := newHouse(c.T)
	if err := clustertest.WriteCredentials(h.dir, time.Now()); err != nil {
		c.Fatal(err)
	}
	if i > 0 { // all have the first one's
		h.copy(c.T, c.houses[0], clustertest.AuthorityFile, clustertest.CertificateFile, clustertest.KeyFile, clustertest.GossipKeyFile)
	}
	host := "127.0.0.1"
	port := func(int) string { return strconv.Itoa(freePort(c.T)) }
	if c.spaces != nil {
		host, h.within = c.spaces.Address(i), c.spaces.Within(i)
		port = strconv.Itoa
	}
	at := func(usual int) string { return net.JoinHostPort(host, port(usual)) }
	c.houses[i] = h
	c.configs[i] = c.configuration(h, c.reach(i)).among(i, at)
	if i == 0 && c.upset.small {
		c.configs[i] = c.configs[i].with("data", smallData(c.T))
	}
}

// among is c for node i of some, whose addresses at makes from the usual ports.
func (c configuration) among(i int, at func(port int) string) configuration {
	return c.with("name", fmt.Sprintf("node%d", i+1)).with("listen", at(8080)).with("admin", at(9090)).
		with("admin_token", "file:"+clustertest.GossipKeyFile).
		with("cluster", map[string]any{
			"bind": at(7946), "messages": at(7947), "keys": []string{"file:" + clustertest.GossipKeyFile},
			"tls": map[string]any{"certificate": clustertest.CertificateFile, "key": clustertest.KeyFile, "authority": clustertest.AuthorityFile},
		})
}

// joining is c with somebody to join.
func (c configuration) joining(seed configuration) configuration {
	one := maps.Clone(c["cluster"].(map[string]any))              //nolint:forcetypeassert,errcheck // among made it
	one["join"] = []any{seed["cluster"].(map[string]any)["bind"]} //nolint:forcetypeassert,errcheck // likewise
	return c.with("cluster", one)
}

// reach is a node's connection string.
func (c *crew) reach(i int) string {
	c.Helper()
	direct := c.url(c.server)
	if i > 0 || !c.upset.proxied {
		return direct
	}
	at := "127.0.0.1:0"
	if c.spaces != nil {
		at = net.JoinHostPort(c.spaces.Here(), "0")
	}
	proxy, err := faultproxy.Listen(c.Context(), at, c.server.Socket())
	if err != nil {
		c.Fatal(err)
	}
	c.proxy = proxy
	c.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			c.Error(err)
		}
	})
	through, err := proxy.URL(direct)
	if err != nil {
		c.Fatal(err)
	}
	return through
}

// begin starts a node, and returns when it serves.
func (c *crew) begin(i int) {
	c.Helper()
	c.nodes[i] = c.houses[i].start(c.T, asItself, c.configs[i])
}

// play plays the upset, judges, and stops the nodes.
func (c *crew) play() result {
	c.Helper()
	if !c.upset.empty {
		c.all(c.begin)
		c.meet()
	}
	c.target()
	played := make(chan error, 1)
	c.began = time.Now()
	go func() { played <- c.sim.Run(c.Context()) }()
	endWatch := c.watchSpools()
	c.rest(c.form.before)
	c.upset.inflict(c)
	c.settle()
	c.meet()
	c.rest(c.form.after)
	for _, n := range c.nodes {
		c.count(n)
	}
	c.sim.Farewell(c.lastWithin())
	if err := <-played; err != nil {
		c.Fatal(err)
	}
	endWatch()
	r := c.judge()
	r.doubtful, r.late = c.doubtful, c.late
	if c.Failed() {
		c.left()
	}
	for _, n := range c.nodes { // all at once: none has anybody to hand over to
		n.terminate(c.T)
	}
	for _, n := range c.nodes {
		if code := n.left(c.T); code != 0 {
			c.Errorf("drained with exit code %d", code)
		}
	}
	return r
}

// target makes Meta post to the nodes, through a proxy.
func (c *crew) target() {
	c.Helper()
	var nodes [crewSize]proxied
	for i := range crewSize {
		nodes[i] = proxied{webhooks: c.configs[i]["listen"].(string), admin: c.configs[i]["admin"].(string)} //nolint:forcetypeassert,errcheck // furnish made them
	}
	c.sim.SetTarget(startProxy(c.T, nodes).url)
}

// left shows what is left in the database.
func (c *crew) left() {
	c.Helper()
	conn := c.connect(c.server)
	for _, sql := range []string{
		`select 'inbox', shard, convert_from(conv, 'utf8'), seq, received, left(convert_from(data, 'utf8'), 60), '' from parley.inbox limit 10`,
		`select 'outbox', 0, convert_from(conv, 'utf8'), ordinal, coalesce(due, -1), convert_from(data, 'utf8'), 'epoch '||epoch||' claimed '||claimed||' doubtful '||doubtful||' attempts '||attempts from parley.outbox limit 10`,
		`select 'timer', shard, convert_from(conv, 'utf8'), 0, due, left(convert_from(data, 'utf8'), 60), '' from parley.timer limit 10`,
		`select 'dead', 0, convert_from(conv, 'utf8'), seq, at, convert_from(cause, 'utf8'), '' from parley.dead limit 10`,
		`select 'lease', 0, convert_from(channel, 'utf8'), epoch, expiry, convert_from(holder, 'utf8'), '' from parley.lease limit 20`,
	} {
		rows, err := conn.Query(c.Context(), sql)
		if err != nil {
			c.Log(err)
			continue
		}
		for rows.Next() {
			values, err := rows.Values()
			c.Log(values, err)
		}
	}
}

// all does something with all nodes at once.
func (c *crew) all(do func(int)) {
	c.Helper()
	var all sync.WaitGroup
	for i := range crewSize {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// meet waits until all nodes see each other, and each shard is run by one.
func (c *crew) meet() {
	c.Helper()
	await(c.T, "the nodes agree", func() bool {
		shards := 0
		for _, n := range c.nodes {
			status, text := n.look(c.T, "/metrics")
			if status == 0 || sum(c.T, text, "parley_cluster_members") != crewSize {
				return false
			}
			shards += sum(c.T, text, "parley_actors_held_shards")
		}
		return shards == 4096
	})
}

// killed kills a node with SIGKILL.
func (c *crew) killed(i int) {
	c.Helper()
	c.count(c.nodes[i])
	c.nodes[i].kill()
	c.sim.Killed(time.Now())
}

func (c *crew) cutOff(i int, oneWay bool, d time.Duration) {
	c.Helper()
	c.during(func() {
		c.sim.Frozen(time.Now())
		if err := c.spaces.Cut(c.Context(), i, oneWay); err != nil {
			c.Fatal(err)
		}
		c.rest(d)
		if err := c.spaces.Mend(c.Context(), i); err != nil {
			c.Fatal(err)
		}
		c.sim.Thawed(time.Now())
	})
}

// freePort is a port that nobody uses.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := pgserver.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// membersKilled kills a random node again and again. Every third time it stays away
// until the others have taken over.
func membersKilled(c *crew) {
	for round := range pick(3, 50) {
		i := c.rng.IntN(crewSize)
		c.during(func() {
			c.killed(i)
			if round%3 == 2 {
				c.rest(4 * time.Second)
			}
			c.begin(i)
		})
		c.rest(2 * time.Second)
	}
}

// memberFrozen stops a node for less than the others wait, and for longer. What it
// believes when it goes on is wrong by then.
func memberFrozen(c *crew) {
	for _, d := range pick([]time.Duration{3 * time.Second}, []time.Duration{3 * time.Second, 12 * time.Second, 40 * time.Second}) {
		n := c.nodes[c.rng.IntN(crewSize)]
		c.during(func() {
			c.signal(n, syscall.SIGSTOP)
			c.sim.Frozen(time.Now())
			c.rest(d)
			c.sim.Thawed(time.Now())
			c.signal(n, syscall.SIGCONT)
		})
		c.rest(2 * time.Second)
	}
}

// allRestarted kills all nodes at once, and starts them together.
func allRestarted(c *crew) {
	for range pick(1, 4) {
		c.during(func() {
			for i := range crewSize {
				c.killed(i)
			}
			c.all(c.begin)
		})
		c.rest(2 * time.Second)
	}
}

// seedLast starts the node last that the others are told to join.
func seedLast(c *crew) {
	c.during(func() {
		c.begin(1)
		c.begin(2)
		c.rest(pick(5*time.Second, 20*time.Second))
		c.begin(0)
	})
}

// upgraded drains each node and starts the next version in its place, and then the
// version before again.
func upgraded(c *crew) {
	before, after := build(c.T, "v1.0.0"), build(c.T, "v1.1.0")
	for _, program := range []string{after, before} {
		for i := range crewSize {
			c.houses[i].program = program
			c.during(func() {
				c.count(c.nodes[i])
				c.nodes[i].stop(c.T)
				c.begin(i)
			})
			c.rest(time.Second)
		}
	}
}

// build builds the program as a version.
func build(t *testing.T, version string) string {
	t.Helper()
	path := t.TempDir() + "/parley-" + version
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", path,
		"-ldflags", "-X github.com/parleychat/parley/node.release="+version, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// databaseLost cuts one node off from the database: webhooks that it has go to its
// spool, and the others go on with its conversations.
func databaseLost(c *crew) {
	for range pick(1, 3) {
		c.during(func() {
			c.proxy.Hang()
			c.rest(pick(6*time.Second, 20*time.Second))
			c.proxy.Pass()
		})
		await(c.T, "the spool is empty", func() bool { return c.nodes[0].metric(c.T, "parley_ingress_spool_records") == 0 })
		c.rest(2 * time.Second)
	}
}

// partitioned cuts one node off from the others, for shorter and for longer than
// they wait; all reach the database.
func partitioned(c *crew) {
	for _, d := range pick([]time.Duration{4 * time.Second}, []time.Duration{time.Second, 4 * time.Second, 20 * time.Second, 60 * time.Second}) {
		c.cutOff(c.rng.IntN(crewSize), false, d)
		c.rest(2 * time.Second)
	}
}

// heardByNobody lets nothing through from one node to the others, though it hears
// them.
func heardByNobody(c *crew) {
	for range pick(1, 3) {
		c.cutOff(c.rng.IntN(crewSize), true, pick(4*time.Second, 20*time.Second))
		c.rest(2 * time.Second)
	}
}
