package metatest

import (
	"time"
)

const (
	receiptAfter  = 150 * time.Millisecond // from what happens on a phone to the webhook that tells of it
	arrivesAfter  = 300 * time.Millisecond // from a send to the phone's having it
	againWithin   = 1500 * time.Millisecond
	reorderWithin = 3 * time.Second
)

// reposts are the waits before each further attempt to deliver; the last recurs. An
// hour of Meta's is a few seconds here.
func reposts() []time.Duration {
	return []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}
}

// mail has something posted, at once or when the troubles say.
func (p *Phones) mail(l *letterbox, at int64) {
	if p.troubles.Reorder && l.phone != nil {
		at += p.chance.Int64N(int64(reorderWithin))
	}
	p.outgoing.push(at, l)
}

// inform has the receiver told what became of a send.
func (p *Phones) inform(f *Phone, b *Bubble, kind receiptKind, at int64) {
	r := receipt{user: p.w.byKey[f.ID], kind: kind, mid: b.ID, tag: tagOf(b.Sent), text: textOf(b.Sent), at: p.w.now}
	p.outgoing.push(at, &letterbox{body: p.receiptBody(f, &r)})
}

// Due returns the POSTs to be written now. Each must be reported by [Phones.Posted].
func (p *Phones) Due(now time.Time) []TrialPost {
	at := p.w.tick(now)
	var posts []TrialPost
	for p.outgoing.len() > 0 && p.outgoing.next() <= at {
		l := p.outgoing.pop()
		p.lastPost++
		p.posts[p.lastPost] = l
		posts = append(posts, TrialPost{ID: p.lastPost, Attempt: l.attempt, Signature: p.w.sign(l.body), Body: l.body})
	}
	return posts
}

// Posted tells what became of a POST: the HTTP status, [NoAnswer] or [Refused]. Until it
// is 200 the same is posted again, as Meta does, only sooner.
func (p *Phones) Posted(id uint64, status int, now time.Time) {
	at := p.w.tick(now)
	l := p.posts[id]
	if l == nil {
		return
	}
	delete(p.posts, id)
	if status != 200 {
		waits := reposts()
		wait := waits[min(l.attempt, len(waits)-1)]
		l.attempt++
		p.outgoing.push(at+int64(wait), l)
		return
	}
	if b := l.bubble; b != nil {
		if b.Deliveries++; b.Status == bubbleSending {
			b.Status = bubbleDelivered
		}
		p.change(l.phone)
	}
	if p.troubles.Duplicates && !l.again {
		l.again, l.attempt = true, 0
		p.outgoing.push(at+p.chance.Int64N(int64(againWithin))+1, l)
	}
}
