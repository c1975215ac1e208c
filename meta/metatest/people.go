package metatest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
)

// person is a user who writes to one channel. Its keys never change.
type person struct {
	channel int32
	id      string // PSID, IGSID or wa_id; empty for a WhatsApp user without a number
	bsuid   string // WhatsApp business-scoped user id; empty if Meta does not tell it
	emptyID bool   // without a number: spelled "" rather than left out
	lastN   uint32 // the largest N first accepted so far
	forget  uint32 // the reminder that the next message must cancel; 0 = none
	wrote   uint32 // messages so far
}

// Person is a user, as Meta names it.
type Person struct {
	Channel Channel // where the user writes
	ID      string  // PSID, IGSID or wa_id; empty for a WhatsApp user without a number
	BSUID   string  // WhatsApp business-scoped user id; empty if Meta does not tell it
}

// People are the users of the run, in the order of their numbers.
func (w *World) People() []Person {
	people := make([]Person, len(w.people))
	for i, p := range w.people {
		people[i] = Person{Channel: w.channels[p.channel], ID: p.id, BSUID: p.bsuid}
	}
	return people
}

// contact is how the problems name a person: by the key that its conversation has.
func (p *person) contact() string {
	if p.id == "" {
		return p.bsuid
	}
	return p.id
}

// populate makes the people: platforms by the mix, channels in turn, so that
// every channel of a platform has as many users as the next.
func populate(cfg Config, channels []Channel) []person {
	var first, count [platforms]int
	for i, c := range slices.Backward(channels) {
		first[c.index] = i
		count[c.index]++
	}
	weights := [platforms]float64{cfg.Mix.Messenger, cfg.Mix.Instagram, cfg.Mix.WhatsApp}
	var given [platforms]int
	people := make([]person, cfg.Users)
	for u := range people {
		p := scarcest(weights, given)
		people[u] = newPerson(p, u, given[p])
		people[u].channel = int32(first[p] + given[p]%count[p])
		given[p]++
	}
	return people
}

// scarcest is the platform that is furthest below its weight.
func scarcest(weights [platforms]float64, given [platforms]int) int {
	best, least := 0, 0.0
	for p, w := range weights {
		if w <= 0 {
			continue
		}
		if load := float64(given[p]+1) / w; least == 0 || load < least {
			best, least = p, load
		}
	}
	return best
}

// newPerson is user u, the nth of its platform. Of ten WhatsApp users five are
// known by number only, four by number and BSUID, one by BSUID only: Meta tells
// no number of a user who took a username.
func newPerson(platform, u, nth int) person {
	switch platform {
	case onMessenger:
		return person{id: strconv.Itoa(7_000_000_000_000_000 + u)}
	case onInstagram:
		return person{id: strconv.Itoa(560_000_000_000_000 + u)}
	default:
		p := person{id: fmt.Sprintf("4915%08d", u)}
		if nth%10 >= 5 {
			p.bsuid = fmt.Sprintf("US.134912%014d", u)
		}
		if nth%10 == 9 {
			p.id, p.emptyID = "", nth%20 == 9
		}
		return p
	}
}

// roster says who writes next: each user once per round, in an order that is
// shuffled anew in every round, but only within small blocks, so that a user's
// messages stay about one interval apart.
type roster struct {
	order []int32
	block int
	rng   *rand.Rand
}

const rosterBlocks = 8

func newRoster(users int, rng *rand.Rand) *roster {
	r := &roster{order: make([]int32, users), block: max(users/rosterBlocks, 1), rng: rng}
	for i := range r.order {
		r.order[i] = int32(i)
	}
	r.shuffle(0, users)
	return r
}

func (r *roster) shuffle(from, to int) {
	part := r.order[from:to]
	r.rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
}

// writer is the user who writes message m (from 0). To be called once for each
// m, in order.
func (r *roster) writer(m int) int32 {
	at := m % len(r.order)
	if at%r.block == 0 {
		r.shuffle(at, r.blockEnd(at))
	}
	return r.order[at]
}

func (r *roster) blockEnd(at int) int {
	return min((at/r.block+1)*r.block, len(r.order))
}

// writesAgain reports whether the writer of message m surely has another turn
// among the first total messages.
func (r *roster) writesAgain(m, total int) bool {
	round, at := m/len(r.order), m%len(r.order)
	return (round+1)*len(r.order)+r.blockEnd(at) <= total
}
