package main_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/meta/metatest/history"
)

// Everything at once: three real nodes on one PostgreSQL, behind HAProxy, under load, and
// a schedule of troubles of the nodes, the store and the load that overlap. After each
// round all is calm, and must be well again; at the end each promise is judged, and the
// nodes' own audit adds up.

var (
	mixedMinutes = flag.Float64("minutes", 0, "mix all faults for so many minutes; 0 = don't")
	mixedSeed    = flag.Uint64("seed", 0, "seed of the mixed schedule; random if 0")
)

const (
	mixedRate = 100.0 // messages per second, by schedule
	// mixedPosts are under way at once, at most: a node that is stopped holds many.
	mixedPosts = 1024
	// mixedIdle are conversations that say something once, and again at the end, for each
	// minute that it lasts.
	mixedIdle = 10_000
	// lastDoubts is what sends in doubt may take, of a conversation's own and before it,
	// and the longest pause of a channel that the Graph API has throttled: 20 s.
	lastDoubts = 30 * time.Second
	lookEvery  = 200 * time.Millisecond
)

// TestChaosMixed plays it.
func TestChaosMixed(t *testing.T) {
	t.Parallel()
	if *mixedMinutes <= 0 {
		t.Skip("make chaos mixes all faults")
	}
	seed := cmp.Or(*mixedSeed, uint64(rand.Uint32()))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay with: make chaos MINUTES=%g SEED=%d", *mixedMinutes, seed)
		}
	})
	t.Logf("seed %d, %g minutes", seed, *mixedMinutes)
	newMix(t, seed, *mixedMinutes).play()
}

// mix is a crew that everything befalls.
type mix struct {
	*crew

	seed    uint64
	plan    schedule
	idle    *strangers
	clock   *serverClock // nil: it can't be stepped
	disk    string       // of the server; empty: it has none of its own
	audit   *auditor
	leftOut map[trouble]string // why

	mu      sync.Mutex // guards what follows, and nodes
	moments []moment
}

// moment is a trouble that has been.
type moment struct {
	act

	from, until time.Time
	note        string
}

func newMix(t *testing.T, seed uint64, minutes float64) *mix {
	t.Helper()
	m := &mix{seed: seed, plan: newSchedule(seed, minutes), leftOut: map[trouble]string{}}
	f := fault{name: "Mixed", refuses: true, form: form{rate: mixedRate, backlog: 0.5, posts: mixedPosts}, seed: seed, settings: map[string]string{"max_wal_size": "256MB"}}
	if os.Geteuid() == 0 {
		f.dir = func(t *testing.T) string {
			t.Helper()
			m.disk = ownDisk(t)
			return m.disk + "/data"
		}
	} else {
		m.leave("it needs root", serverDiskFull, serverDiskSlow, memberFull, nodeCutOff, nodeUnheard)
	}
	if clock, err := newServerClock(t); err != nil {
		m.leave(err.Error(), serverClockBack)
	} else {
		m.clock, f.env = clock, clock.environment()
	}
	m.crew = newCrew(t, upset{name: f.name, on: &f, apart: os.Geteuid() == 0, proxied: true, small: os.Geteuid() == 0})
	for i := range crewSize {
		m.twoKeys(i)
	}
	return m
}

func (m *mix) leave(why string, all ...trouble) {
	for _, k := range all {
		m.leftOut[k] = why
	}
}

// play plays the schedule, and judges.
func (m *mix) play() {
	m.Helper()
	m.all(m.begin)
	m.meet()
	m.idle = m.strangers(int(mixedIdle * *mixedMinutes))
	m.idle.atOnce = 5 * strangersAtOnce //nolint:mnd // nothing else is to be done yet
	m.idle.write()
	m.target()
	m.audit = newAuditor(m)
	played := make(chan error, 1)
	m.began = time.Now()
	go func() { played <- m.sim.Run(m.Context()) }()
	m.rest(2 * time.Second)
	auditing, enough := context.WithCancel(m.Context())
	defer enough()
	var watching sync.WaitGroup
	watching.Go(func() { m.audit.watch(auditing) })
	for r := range m.plan {
		m.round(r)
		if m.Failed() {
			break // what comes after tells nothing more
		}
	}
	enough()
	watching.Wait()
	m.sim.Farewell(healsWithin + lastDoubts)
	if err := <-played; err != nil {
		m.Fatal(err)
	}
	m.idle.afterwards()
	for _, n := range m.nodes {
		m.count(n)
	}
	m.judgeAll()
	if m.Failed() {
		m.left()
	}
	m.all(func(i int) { m.nodes[i].stop(m.T) })
}

// round plays a round, and waits until all is well again.
func (m *mix) round(r int) {
	m.Helper()
	from := time.Now()
	var all sync.WaitGroup
	for l := range lanes {
		all.Go(func() {
			for _, a := range m.plan.of(r, l) {
				m.rest(time.Until(from.Add(a.at)))
				m.inflict(a)
			}
		})
	}
	all.Wait()
	m.heals(r, from, time.Now())
}

// inflict does what an act says, and notes when it was.
func (m *mix) inflict(a act) {
	m.Helper()
	why, out := m.leftOut[a.trouble]
	if out {
		m.Logf("%s  left out: %s: %s", m.stamp(time.Now()), a.trouble, why)
		return
	}
	one := moment{act: a, from: time.Now()}
	m.Logf("%s  %s: %s, for %.1f s", m.stamp(one.from), a.lane, a.trouble, a.lasts.Seconds())
	one.note = m.troubles()[a.trouble](a)
	one.until = time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moments = append(m.moments, one)
}

// troubles are what is done, and what there is to be said of it.
func (m *mix) troubles() map[trouble]func(act) string {
	return map[trouble]func(act) string{
		nodeKilled: m.killOne, nodeKilledAgain: m.killTwice, nodesKilled: m.killAll,
		nodeStopped: m.stopOne, nodeStoppedForLong: m.stopOne,
		nodeCutOff: m.cutOne, nodeUnheard: m.cutOne, nodesRolled: m.roll,
		certificatesRotated: m.rotateCertificates, keysRotated: m.rotateKeys,

		serverKilled: m.killServer, serverStopped: m.stopServer, sessionKilled: m.killSession, sessionsEnded: m.endSessions,
		serverDiskFull: m.fillServer, serverDiskSlow: m.stallServer, serverClockBack: m.setBack,
		memberSevered: m.sever, memberFar: m.far, memberMisled: m.mislead, memberFull: m.fillMember,

		graphRefuses: m.graph(metatest.Faults{Transient: 1}), graphThrottles: m.graph(metatest.Faults{Throttled: 1}),
		graphLosesAnswers: m.graph(metatest.Faults{Withheld: 0.3}), graphHangs: m.graph(metatest.Faults{Slow: 1, SlowFor: 7 * time.Second}), //nolint:mnd // longer than anybody waits
		retryStorm: m.storm, viralConversation: m.viral, massTimers: m.alarm,
	}
}

// stamp is a time of the run.
func (m *mix) stamp(at time.Time) string { return fmt.Sprintf("%6.1fs", at.Sub(m.began).Seconds()) }

// node is one of the nodes, which may be another process a moment later.
func (m *mix) node(i int) *instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[i]
}

// heals waits until all is well after a round: each node serves, each shard is run
// by one, what was acknowledged has taken effect, and what is new does soon.
func (m *mix) heals(r int, from, until time.Time) {
	m.Helper()
	limit := healsWithin + lastDoubts + time.Duration(m.form.backlog*float64(m.longest(from)))
	for {
		rec := m.sim.Recovery(from, until)
		over := time.Since(until)
		if rec.First >= 0 && rec.Waiting == 0 && over > healsWithin {
			m.Logf("%s  round %d of %d: again after %d ms, new after %d ms, caught up after %d ms", m.stamp(time.Now()), r+1, len(m.plan),
				rec.Resumed.Milliseconds(), rec.First.Milliseconds(), rec.CaughtUp.Milliseconds())
			break
		}
		if over > limit {
			m.Errorf("round %d: after %s %d messages that were acknowledged by its end are without effect; the first effect came after %s, of something new after %s",
				r+1, over, rec.Waiting, rec.Resumed, rec.First)
			break
		}
		m.rest(lookEvery)
	}
	m.meet()
	for i := range crewSize {
		select {
		case <-m.node(i).ended:
			m.Errorf("node %d ended by itself", i+1)
		default:
		}
	}
}

// longest is the longest trouble since then.
func (m *mix) longest(from time.Time) (d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.moments {
		if !one.from.Before(from) {
			d = max(d, one.until.Sub(one.from))
		}
	}
	return d
}

// judgeAll judges all promises, the audit and the history, and prints the report.
func (m *mix) judgeAll() {
	m.Helper()
	v := m.sim.Verdict()
	h, err := m.past.Check(m.Context(), history.Options{})
	if err != nil {
		m.Fatal(err)
	}
	c := metatest.Circumstances{Nodes: crewSize}
	for _, one := range m.moments {
		if c.Faults++; one.lane == ofNodes {
			c.Changes++
		}
	}
	promises := metatest.Promises(&v, &h, c)
	m.Logf("\n%s\n%s\n%s", m.timeline(), table(promises), m.sums(&v, &h))
	if !v.Clean() || !h.Clean() {
		m.Errorf("the verdict isn't clean: %q; the history: %v %v", v.Problems(), h.Findings, h.UndecidedOnes)
	}
	for _, p := range promises {
		if p.Broken > 0 {
			m.Errorf("%s, %s: %d times broken", p.ID, p.Name, p.Broken)
		}
	}
	if v.LastAsked == 0 || v.Effects < int(mixedRate) {
		m.Errorf("%d effects, %d last messages: this tried too little", v.Effects, v.LastAsked)
	}
	m.audit.judge(v.Acked)
}

// sums are the figures of the run.
func (m *mix) sums(v *metatest.Verdict, h *history.Report) string {
	return fmt.Sprintf("seed %d: %d messages, %d acknowledged, %d effects, %d posts of which %d were not answered with 200, ack p50 %.1f ms, p99 %.0f ms\n"+
		"sends %d, doubtful %d, repeated %d (with reason: %d); acknowledged from spools %d; timers %d, rung %d, late p99 %.0f ms; idle conversations %d\n"+
		"history: %s\n%s\nleft out: %v",
		m.seed, v.Offered, v.Acked, v.Effects, v.Posts, v.PostsRetried, v.AnswerMS.P50, v.AckMS.P99,
		v.Sends, m.doubtful, v.SendsRepeated, v.SendsRepeated-v.SendsRepeatedUnexplained, m.late, v.TimersSet, v.TimersRung, v.TimersLateMS.P99, m.idle.n,
		h.Summary(), m.audit.summary(), m.leftOut)
}

// timeline is a line for each trouble: when it began and ended, the first effect after
// it, and when what had been acknowledged by its end had taken effect.
func (m *mix) timeline() string {
	slices.SortFunc(m.moments, func(a, b moment) int { return a.from.Compare(b.from) })
	return aligned(func(line func(...any)) {
		line("began s", "ended s", "lane", "trouble", "effect ms", "new ms", "caught up ms", "")
		for _, one := range m.moments {
			rec := m.sim.Recovery(one.from, one.until)
			line(m.stamp(one.from), m.stamp(one.until), one.lane, one.trouble,
				rec.Resumed.Milliseconds(), rec.First.Milliseconds(), rec.CaughtUp.Milliseconds(), one.note)
		}
	})
}

func table(promises []metatest.Promise) string {
	return aligned(func(line func(...any)) {
		line("", "checked", "broken", "promise", "")
		for _, p := range promises {
			line(p.ID, p.Checked, p.Broken, p.Name, p.Note)
		}
	})
}

func aligned(fill func(line func(cells ...any))) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fill(func(cells ...any) { _, _ = fmt.Fprintf(w, strings.Repeat("%v\t", len(cells))+"\n", cells...) })
	_ = w.Flush() // a builder takes everything
	return text.String()
}
