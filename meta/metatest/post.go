package metatest

import (
	"encoding/hex"
	"math"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// SignatureHeader is the header that carries [Post.Signature].
const SignatureHeader = "X-Hub-Signature-256"

// Outcomes of a post that are no HTTP status, for [World.Posted].
const (
	NoAnswer = 0  // time-out, or the connection broke: the body may have arrived
	Refused  = -1 // no connection: the body can't have arrived
)

// Post is one webhook to be written now.
type Post struct {
	ID        uint64    // for [World.Posted]; the same for every attempt
	Attempt   int       // 0 is the first
	Due       time.Time // when it should have been written
	Path      string    // /webhooks/{app}
	Signature string    // value of the header [SignatureHeader]
	Body      []byte    // read-only; the same for every attempt
}

// update is one element of a batch: a user's message or a receipt.
type update struct {
	message   int32    // index of its record; unused for a receipt
	receipt   *receipt // nil for a message
	duplicate bool     // delivered before; not duplicated once more
}

// The classes of updates that share no POST: users' messages, receipts, and
// each of them delivered again (a duplicate must be able to overtake).
const (
	ofMessages = iota
	ofReceipts
	again // added to one of the above
	_
	classes
)

func (u update) class() int {
	c := ofMessages
	if u.receipt != nil {
		c = ofReceipts
	}
	if u.duplicate {
		c += again
	}
	return c
}

// batch is a POST being filled.
type batch struct {
	updates []update
	due     int64
	most    int
}

// post is a POST that Meta wants to see acknowledged.
type post struct {
	Post
	due     int64 // of the first attempt
	handed  int64
	step    uint32
	out     bool
	updates []update
}

// handed is the end of Meta's patience with one attempt of a post.
type handed struct {
	at      int64
	id      uint64
	attempt int
}

// Due returns the webhooks to be written now: what is due for the first time,
// what Meta sends again because it was not acknowledged, and duplicates. Each
// must be reported by [World.Posted]; one that is not within Config.PostTimeout
// counts as unanswered. With Config.InFlight set, no more posts are handed out
// than fit.
func (w *World) Due(now time.Time) []Post {
	at := w.tick(now)
	w.giveUp(at)
	w.write(at)
	var posts []Post
	for w.retries.len() > 0 && w.retries.next() <= at && w.slots() > 0 {
		posts = append(posts, w.hand(w.retries.pop()))
	}
	return w.batch(at, posts)
}

// slots is how many more posts may be out.
func (w *World) slots() int {
	if w.cfg.InFlight == 0 {
		return math.MaxInt
	}
	return w.cfg.InFlight - w.out
}

// giveUp counts posts as unanswered whose time is over.
func (w *World) giveUp(at int64) {
	for len(w.deadline) > 0 && w.deadline[0].at <= at {
		d := w.deadline[0]
		w.deadline = w.deadline[1:]
		if p := w.posts[d.id]; p != nil && p.out && p.Attempt == d.attempt {
			w.again(p, at)
		}
	}
}

// trim forgets deadlines of attempts that have an outcome.
func (w *World) trim() {
	for len(w.deadline) > 0 {
		d := w.deadline[0]
		if p := w.posts[d.id]; p != nil && p.out && p.Attempt == d.attempt {
			return
		}
		w.deadline = w.deadline[1:]
	}
}

// batch packs the updates that are due into posts.
func (w *World) batch(at int64, posts []Post) []Post {
	begun := 0
	for w.updates.len() > 0 && w.updates.next() <= at {
		u := w.updates.first()
		p := w.channels[w.people[w.person(u)].channel].index
		b := &w.batches[p][u.class()]
		if len(b.updates) == 0 {
			if w.slots() <= begun {
				break
			}
			begun++
			*b = batch{updates: b.updates, due: w.updates.next(), most: w.batchSize(u)}
		}
		b.updates = append(b.updates, w.updates.pop())
		if len(b.updates) >= b.most {
			begun--
			posts = w.close(b, posts)
		}
	}
	for p := range w.batches {
		for c := range w.batches[p] {
			posts = w.close(&w.batches[p][c], posts)
		}
	}
	return posts
}

func (w *World) batchSize(u update) int {
	if u.receipt != nil {
		return w.cfg.ReceiptBatch
	}
	return 1 + w.network.IntN(w.cfg.Batch)
}

// person is whom an update is about.
func (w *World) person(u update) int32 {
	if u.receipt != nil {
		return u.receipt.user
	}
	return w.userOf(u.message)
}

// close makes a post of a batch, and perhaps has it delivered once more.
func (w *World) close(b *batch, posts []Post) []Post {
	if len(b.updates) == 0 {
		return posts
	}
	w.arrange(b.updates)
	p := w.newPost(append([]update(nil), b.updates...), b.due)
	b.updates = b.updates[:0]
	posts = append(posts, w.hand(p))
	if w.copies > 1 && !p.updates[0].duplicate {
		for range w.network.IntN(w.copies) {
			w.repeat(p.updates)
		}
		return posts
	}
	if p.updates[0].duplicate || w.network.Float64() >= w.cfg.Duplicates {
		return posts
	}
	if w.network.IntN(3) == 0 { // the whole POST again, at the same time
		w.live.Duplicates += len(p.updates)
		w.lastPost++
		twin := &post{Post: p.Post, due: p.due, updates: p.updates}
		twin.ID, twin.Attempt = w.lastPost, 0
		w.posts[twin.ID] = twin
		return append(posts, w.hand(twin))
	}
	w.repeat(p.updates)
	return posts
}

// repeat has the updates delivered once more: soon or later, in other posts and
// with other neighbours.
func (w *World) repeat(updates []update) {
	w.live.Duplicates += len(updates)
	together := w.later()
	split := w.network.IntN(2) == 0
	for _, u := range updates {
		at := together
		if split {
			at = w.later()
		}
		u.duplicate = true
		w.updates.push(at, u)
	}
}

// later is a time for a second delivery: half of them come while the first one
// is on its way.
func (w *World) later() int64 {
	const soon = 20 * time.Millisecond
	within := w.cfg.DuplicateWithin
	if w.network.IntN(2) == 0 {
		within = min(soon, within)
	}
	return w.now + w.network.Int64N(int64(within)+1)
}

// arrange sometimes shuffles the updates of a post.
func (w *World) arrange(updates []update) {
	if len(updates) > 1 && w.network.Float64() < w.cfg.Shuffled {
		w.network.Shuffle(len(updates), func(i, j int) { updates[i], updates[j] = updates[j], updates[i] })
	}
}

func (w *World) newPost(updates []update, due int64) *post {
	w.lastPost++
	body := w.appendBody(make([]byte, 0, bodyBytes(updates)), updates)
	p := &post{due: due, updates: updates, Post: Post{
		ID: w.lastPost, Path: "/webhooks/" + w.cfg.App, Body: body, Signature: w.sign(body),
		Due: w.start.Add(time.Duration(due)),
	}}
	w.posts[p.ID] = p
	return p
}

// sign is the value of X-Hub-Signature-256 for a body.
func (w *World) sign(body []byte) string {
	const prefix = "sha256="
	w.signer.Reset()
	_, _ = w.signer.Write(body) // a hash never fails
	var sum [32]byte
	b := make([]byte, 0, len(prefix)+2*len(sum))
	return string(hex.AppendEncode(append(b, prefix...), w.signer.Sum(sum[:0])))
}

// hand gives a post to the driver, and takes note of what may now arrive.
func (w *World) hand(p *post) Post {
	p.handed, p.step, p.out = w.now, w.step, true
	w.out++
	w.live.Posts++
	w.deadline = append(w.deadline, handed{w.now + int64(w.cfg.PostTimeout), p.ID, p.Attempt})
	if p.Attempt == 0 {
		w.lag.record(time.Duration(w.now - p.due))
	}
	for _, u := range p.updates {
		if u.receipt != nil {
			continue
		}
		r := &w.records[u.message]
		r.sightings++
		if r.postedStep == 0 {
			r.posted, r.postedStep = w.now, w.step
			w.note(u.message, history.Post, 0)
		}
	}
	return p.Post
}

// Posted tells what became of a post: the HTTP status, [NoAnswer] or [Refused].
// 200 acknowledges it; after anything else Meta sends it again. What is told
// about a post that is not out is ignored.
func (w *World) Posted(id uint64, status int, now time.Time) {
	at := w.tick(now)
	p := w.posts[id]
	if p == nil || !p.out {
		return
	}
	switch status {
	case 200:
		w.pace.note(at, at-p.handed)
		w.acknowledged(p, at)
		return
	case Refused:
		w.neverArrived(p)
	}
	w.again(p, at)
}

func (w *World) acknowledged(p *post, at int64) {
	p.out = false
	w.out--
	delete(w.posts, p.ID)
	w.ack.record(time.Duration(at - p.due))
	w.answers.record(time.Duration(at - p.handed))
	for _, u := range p.updates {
		if u.receipt != nil {
			w.tell(u.receipt, at)
			continue
		}
		if r := &w.records[u.message]; !r.acked() {
			r.ackedStep, r.took, r.ackedAt = w.step, p.handed, at
			w.note(u.message, history.Ack, 0)
			w.live.Acked++
		}
	}
}

// neverArrived takes back that an attempt may have arrived, which makes the
// bounds on order and on early timers strict after an outage. With another post
// of the same message on its way the bound stays as it is, which is lenient.
func (w *World) neverArrived(p *post) {
	for _, u := range p.updates {
		if u.receipt != nil {
			continue
		}
		r := &w.records[u.message]
		if r.sightings--; r.sightings == 0 {
			r.posted, r.postedStep = 0, 0
			w.note(u.message, history.Unpost, 0)
		}
	}
}

// again has a post sent again: at once, then less and less often, for ever.
func (w *World) again(p *post, at int64) {
	p.out = false
	w.out--
	p.Attempt++
	w.live.PostsRetried++
	wait := int64(backOff(p.Attempt))
	p.Due = w.start.Add(time.Duration(at + wait))
	w.retries.push(at+wait+w.network.Int64N(wait/4+1), p)
}

// backOff is the wait before an attempt.
func backOff(attempt int) time.Duration {
	steps := [...]time.Duration{
		0, 0, 200 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2 * time.Second, 4 * time.Second,
	}
	return steps[min(attempt, len(steps)-1)]
}
