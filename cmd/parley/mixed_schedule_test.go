package main_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the mixed chaos inflicts, and when, is decided by a seed and nothing else.

// trouble is a kind of what is inflicted.
type trouble string

// lane is who or what troubles befall. Those of one lane come one after the other;
// those of different lanes overlap as chance has it.
type lane int

const (
	ofNodes lane = iota
	ofStore
	ofLoad
	lanes
)

func (l lane) String() string { return [lanes]string{"nodes", "store", "load"}[l] }

// kindOf is what there is of a lane, and how long one lasts. A trouble of no length
// takes the time that it takes.
type kindOf struct {
	trouble

	least, most time.Duration
}

func kinds(l lane) []kindOf {
	const s = time.Second
	return [lanes][]kindOf{
		ofNodes: {
			{nodeKilled, s / 2, 8 * s},
			{nodeKilledAgain, s / 2, 4 * s},
			{nodesKilled, 0, 2 * s},
			{nodeStopped, s, 4 * s},
			{nodeStoppedForLong, 8 * s, 14 * s},
			{nodeCutOff, 2 * s, 14 * s},
			{nodeUnheard, 2 * s, 14 * s},
			{nodesRolled, 0, 0},
			{certificatesRotated, 0, 0},
			{keysRotated, 0, 0},
		},
		ofStore: {
			{serverKilled, s / 2, 8 * s},
			{serverStopped, s, 10 * s},
			{sessionKilled, 0, 0},
			{sessionsEnded, 2 * s, 8 * s},
			{serverDiskFull, 2 * s, 8 * s},
			{serverDiskSlow, 3 * s, 10 * s},
			{serverClockBack, s, 3 * s},
			{memberSevered, 2 * s, 12 * s},
			{memberFar, 3 * s, 10 * s},
			{memberMisled, 3 * s, 10 * s},
			{memberFull, 3 * s, 10 * s},
		},
		ofLoad: {
			{graphRefuses, 2 * s, 8 * s},
			{graphThrottles, s, 4 * s},
			{graphLosesAnswers, 2 * s, 8 * s},
			{graphHangs, 2 * s, 6 * s},
			{retryStorm, 8 * s, 14 * s},
			{viralConversation, 6 * s, 14 * s},
			{massTimers, 4 * s, 6 * s},
		},
	}[l]
}

const (
	roundLasts = 50 * time.Second // about, with the calm at its end
	slotLasts  = 20 * time.Second // of one lane
	slots      = 2                // of a lane in a round
	slackMost  = 4 * time.Second  // before a trouble begins
)

// act is one trouble.
type act struct {
	trouble

	lane  lane
	at    time.Duration // after the beginning of its round
	lasts time.Duration
	node  int    // whom it befalls, if it is one
	draw  uint64 // decides what else is to be decided
}

// schedule is all acts, in rounds. After each round everything must heal.
type schedule [][]act

// newSchedule draws the schedule of so many minutes. A longer one begins as a shorter
// one of the same seed.
func newSchedule(seed uint64, minutes float64) schedule {
	rng := rand.New(rand.NewPCG(seed, uint64(roundLasts)))
	var decks [lanes]deck
	for l := range lanes {
		decks[l] = deck{all: kinds(l)}
	}
	rounds := max(1, int(time.Duration(minutes*float64(time.Minute))/roundLasts))
	s := make(schedule, rounds)
	for r := range s {
		for l := range lanes {
			for slot := range slots {
				k := decks[l].draw(rng)
				s[r] = append(s[r], act{
					trouble: k.trouble, lane: l,
					at:    time.Duration(slot)*slotLasts + time.Duration(rng.Int64N(int64(slackMost))),
					lasts: k.least + time.Duration(rng.Int64N(int64(k.most-k.least)+1)),
					node:  rng.IntN(crewSize), draw: rng.Uint64(),
				})
			}
		}
	}
	return s
}

// deck is kinds to be drawn, each once before any comes again.
type deck struct{ all, left []kindOf }

func (d *deck) draw(rng *rand.Rand) kindOf {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.all)
		rng.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	k := d.left[0]
	d.left = d.left[1:]
	return k
}

// of is what a lane has to do in a round, in order.
func (s schedule) of(round int, l lane) []act {
	return slices.DeleteFunc(slices.Clone(s[round]), func(a act) bool { return a.lane != l })
}

func TestScheduleIsOfItsSeed(t *testing.T) {
	t.Parallel()
	same := func(a, b schedule) bool { return slices.EqualFunc(a, b, slices.Equal[[]act]) }
	for seed := range uint64(50) {
		long, short := newSchedule(seed, 10), newSchedule(seed, 3)
		if !same(long, newSchedule(seed, 10)) {
			t.Errorf("seed %d: twice, and different", seed)
		}
		if !same(short, long[:len(short)]) {
			t.Errorf("seed %d: 3 minutes aren't the beginning of 10", seed)
		}
		if same(long, newSchedule(seed+1, 10)) {
			t.Errorf("seeds %d and %d have one schedule", seed, seed+1)
		}
	}
}

// A schedule is kept by its seed's number for as long as the kinds stay: this is the
// beginning of one.
func TestScheduleStays(t *testing.T) {
	t.Parallel()
	var got []trouble
	for _, a := range newSchedule(1, 1)[0] {
		got = append(got, a.trouble)
	}
	want := []trouble{nodeUnheard, nodeCutOff, serverStopped, sessionsEnded, retryStorm, graphRefuses}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// In ten minutes there is everything; troubles of one lane don't overlap, and none
// reaches into the calm.
func TestScheduleHasAll(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		s := newSchedule(seed, 10)
		seen := map[trouble]int{}
		for r := range s {
			for l := range lanes {
				free := time.Duration(0)
				for _, a := range s.of(r, l) {
					seen[a.trouble]++
					if a.at < free || a.at+a.lasts > slots*slotLasts || a.node < 0 || a.node >= crewSize {
						t.Fatalf("seed %d, round %d: %+v, free from %s on", seed, r, a, free)
					}
					free = a.at + a.lasts
				}
			}
		}
		for l := range lanes {
			for _, k := range kinds(l) {
				if seen[k.trouble] < 2 {
					t.Errorf("seed %d: %s comes %d times", seed, k.trouble, seen[k.trouble])
				}
			}
		}
	}
}
