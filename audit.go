package parley

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// AuditBucket is how finely events are told apart by the time at which they were
// accepted. All that is counted of an event is counted in the bucket of its
// acceptance, so that each bucket adds up by itself.
const AuditBucket = 5 * time.Minute

// AuditFor is for how long buckets are kept apart. Older ones are one, BucketBefore.
const AuditFor = 48 * time.Hour

// BucketBefore is the bucket of all that was accepted longer ago than AuditFor, and
// of what has no time of acceptance: receipts.
const BucketBefore = 0

// BucketOf is the number of the bucket of a time. Stores count in milliseconds, and
// so does this.
func BucketOf(accepted time.Time) int64 {
	return max(accepted.UnixMilli(), 0) / AuditBucket.Milliseconds()
}

// BucketBegin is when a bucket begins.
func BucketBegin(bucket int64) time.Time {
	return time.UnixMilli(bucket * AuditBucket.Milliseconds()).UTC()
}

// AuditSort is what is counted apart from the rest.
type AuditSort uint8

// The sorts. Their numbers are stored.
const (
	AuditEvents   AuditSort = iota // rows of the inbox that came in from outside
	AuditReceipts                  // statuses and echoes, which cost no turn
	AuditBodies                    // updates in the quarantine: they have no brand yet
)

// Posting is a change of the counts of a brand, a sort and a bucket. A store takes it
// in the transaction, or the write, of what it is about, and so it is there if and
// only if that is.
//
// What each path posts:
//
//   - an append: acknowledged, by the number of what was given, not of what was stored.
//   - a turn, for each row that it consumes: effected; duplicate, if its key was among
//     those seen; or dead, if it has become a dead letter. Rows of Parley's own making
//     (timers, answers of calls, messages that could not be sent) are nobody's word
//     and are not counted: see OfOwn.
//   - an input that a bot had kept and buries later: one effected less, one dead more.
//   - a merge, a turn that is put off, a prune: nothing. Rows stay where they are.
//   - the retry of a dead event: one dead less, as its row is pending again, both in
//     the bucket of the retry. So the dead of a short time may be less than none.
//   - a dead letter that is dropped stays among the dead, and is counted as dropped.
//   - receipts that are folded: effected. One that turns out to be an echo of somebody
//     else's has become an event: acknowledged as a receipt no more, but as an event.
//   - what is released from the quarantine: acknowledged as a body no more, but as the
//     events and receipts that it has become.
type Posting struct {
	Brand        Brand
	Sort         AuditSort
	Bucket       int64
	Acknowledged int64
	Effected     int64
	Duplicate    int64
	Dead         int64
	Dropped      int64 // of the dead
}

// Add adds the counts of q.
func (p *Posting) Add(q *Posting) {
	p.Acknowledged += q.Acknowledged
	p.Effected += q.Effected
	p.Duplicate += q.Duplicate
	p.Dead += q.Dead
	p.Dropped += q.Dropped
}

// AuditLine is what has been counted of a brand, a sort and a bucket, beside what is
// there of it: counted when it was read, row by row.
type AuditLine struct {
	Posting
	Pending     int64 // rows of the inbox, or receipts
	Quarantined int64
	// Letters is how many dead events there are. They don't keep when their events were
	// accepted: a brand's are all in its line of BucketBefore.
	Letters int64
}

// Missing is how many were acknowledged and are nowhere; less than none, if more is
// there than was acknowledged.
func (l *AuditLine) Missing() int64 {
	return l.Acknowledged - l.Effected - l.Duplicate - l.Dead - l.Pending - l.Quarantined
}

// Ledger is the counts of a store, and what is there, at one moment.
type Ledger struct {
	At time.Time // by the store's clock
	// Opened is since when everybody counts who writes into the store; zero: somebody
	// doesn't, and it doesn't have to add up.
	Opened time.Time
	Turn   int64 // how often the books were opened and closed
	Lines  []AuditLine
}

// Accepted is an event that was acknowledged, as it was noted beside the inbox.
type Accepted struct {
	Conversation Conversation // whose row it was given
	Key          EventKey
	Token        Token // of its row
}

// OfOwn reports whether the stored form of an input is of Parley's own making: it was
// not acknowledged to anybody.
func OfOwn(data []byte) bool {
	rest, ok := bytes.CutPrefix(data, []byte(inputKind))
	if !ok {
		return false
	}
	for _, kind := range OwnKinds() {
		if after, ok := bytes.CutPrefix(rest, []byte(kind)); ok && len(after) > 0 && after[0] == '"' {
			return true
		}
	}
	return false
}

// isOwn is OfOwn of an input that has been read.
func isOwn(in Input) bool {
	switch in.(type) {
	case TimerFired, SendFailed, Called, SpeakerReturned:
		return true
	default:
		return false
	}
}

// OwnKinds are the kinds of inputs that OfOwn is about.
func OwnKinds() [4]string {
	return [4]string{TimerFired{}.Kind(), SendFailed{}.Kind(), Called{}.Kind(), SpeakerReturned{}.Kind()}
}

// Compact makes of the lines of buckets before one lines of BucketBefore, as
// TidyBooks of a store does with what is counted: what is there of them isn't counted
// there.
func (g *Ledger) Compact(before int64) {
	lines := make([]AuditLine, 0, len(g.Lines))
	at := map[PostingKey]int{}
	for i := range g.Lines {
		l := g.Lines[i]
		if l.Bucket < before {
			l.Bucket = BucketBefore
		}
		k, ok := at[l.Of()]
		if !ok {
			at[l.Of()] = len(lines)
			lines = append(lines, l)
			continue
		}
		sum := &lines[k]
		sum.Add(&l.Posting)
		sum.Pending += l.Pending
		sum.Quarantined += l.Quarantined
		sum.Letters += l.Letters
	}
	slices.SortStableFunc(lines, func(a, b AuditLine) int { return a.Of().Compare(b.Of()) })
	g.Lines = lines
}

// AuditTerms are the two sides of what must be equal:
//
//	acknowledged = effected + duplicate + pending + spooled + quarantined + dead
//
// What is missing in one line doesn't make up for an excess in another, so both are
// told: acknowledged is the sum and what is missing, less the excess.
type AuditTerms struct {
	Acknowledged int64 `json:"acknowledged" doc:"Updates that were answered with 200"`
	Effected     int64 `json:"effected" doc:"Events whose turn is committed, and receipts that are folded"`
	Duplicate    int64 `json:"duplicate" doc:"Events that had taken effect before"`
	Pending      int64 `json:"pending" doc:"Events that wait in the inbox, and receipts that aren't folded"`
	Spooled      int64 `json:"spooled" doc:"Updates on disks of members, not yet in the store"`
	Quarantined  int64 `json:"quarantined" doc:"Updates in the quarantine"`
	Dead         int64 `json:"dead" doc:"Events that have become dead letters; less than none, if more were retried in the time than died"`
	Dropped      int64 `json:"dropped" doc:"Of the dead, those whose letters an operator has dropped"`
	Missing      int64 `json:"missing" doc:"What is acknowledged and nowhere else: lost, or not counted where it went"`
	Excess       int64 `json:"excess" doc:"What is there and was not acknowledged: counted twice, or not counted when it came"`
	Letters      int64 `json:"missing_letters" doc:"Dead letters of events that should be there, and are not"`
}

// AddsUp reports whether nothing is missing.
func (t *AuditTerms) AddsUp() bool { return t.Missing == 0 && t.Excess == 0 && t.Letters == 0 }

func (t *AuditTerms) add(l *AuditLine) {
	t.Acknowledged += l.Acknowledged
	t.Effected += l.Effected
	t.Duplicate += l.Duplicate
	t.Pending += l.Pending
	t.Quarantined += l.Quarantined
	t.Dead += l.Dead
	t.Dropped += l.Dropped
	t.Missing += max(l.Missing(), 0)
	t.Excess += max(-l.Missing(), 0)
}

// Sum adds the lines up that want means, or all if it is nil.
func (g *Ledger) Sum(want func(*AuditLine) bool) (t AuditTerms) {
	for i := range g.Lines {
		if l := &g.Lines[i]; want == nil || want(l) {
			t.add(l)
		}
	}
	return t
}

// MissingLetters is how many dead letters of a brand's events should be there and
// are not. They have no bucket, so all of the brand's lines count.
func (g *Ledger) MissingLetters(brand Brand) (n int64) {
	for i := range g.Lines {
		if l := &g.Lines[i]; l.Brand == brand {
			n += l.Dead - l.Dropped - l.Letters
		}
	}
	return n
}

// Opening are postings that make a ledger add up, as it stands. They do so whatever is
// written meanwhile, as long as everybody counts who writes: each write leaves what
// is missing as it is.
func (g *Ledger) Opening() (all []Posting) {
	byBrand := map[Brand]int64{}
	for i := range g.Lines {
		l := &g.Lines[i]
		if n := l.Missing(); n != 0 {
			all = append(all, Posting{Brand: l.Brand, Sort: l.Sort, Bucket: l.Bucket, Acknowledged: -n})
		}
		byBrand[l.Brand] += l.Letters - l.Dead + l.Dropped
	}
	for i := range g.Lines { // in the order of lines
		brand := g.Lines[i].Brand
		if n := byBrand[brand]; n != 0 {
			all = append(all, Posting{Brand: brand, Sort: AuditEvents, Bucket: BucketBefore, Acknowledged: n, Dead: n})
			delete(byBrand, brand)
		}
	}
	return all
}

// PostingKey is what a posting is about.
type PostingKey struct {
	Brand  Brand
	Sort   AuditSort
	Bucket int64
}

// Compare orders keys: by brand, then sort, then bucket.
func (k PostingKey) Compare(o PostingKey) int {
	return cmp.Or(cmp.Compare(k.Brand, o.Brand), cmp.Compare(k.Sort, o.Sort), cmp.Compare(k.Bucket, o.Bucket))
}

// Of is what the posting is about.
func (p *Posting) Of() PostingKey { return PostingKey{p.Brand, p.Sort, p.Bucket} }

// PostArrivals are the postings of what is appended, accepted in a bucket. They go by
// what was given to be stored.
func PostArrivals(a *Arrivals, bucket int64) []Posting {
	counts := map[PostingKey]int64{}
	for i := range a.Events {
		counts[PostingKey{a.Events[i].Channel.Brand, AuditEvents, bucket}]++
	}
	for i := range a.Receipts {
		counts[PostingKey{a.Receipts[i].Channel.Brand, AuditReceipts, BucketBefore}]++
	}
	if n := len(a.Quarantined); n > 0 {
		counts[PostingKey{Sort: AuditBodies, Bucket: bucket}] = int64(n)
	}
	all := make([]Posting, 0, len(counts))
	for k, n := range counts {
		all = append(all, Posting{Brand: k.Brand, Sort: k.Sort, Bucket: k.Bucket, Acknowledged: n})
	}
	return all
}

// PostFold are the postings of receipts of a brand that are folded at a time; others
// of them have become events, as echoes of somebody else's.
func PostFold(brand Brand, folded, others int, at time.Time) (all []Posting) {
	if folded > 0 {
		n := int64(others)
		all = append(all, Posting{Brand: brand, Sort: AuditReceipts, Bucket: BucketBefore, Acknowledged: -n, Effected: int64(folded) - n})
	}
	if others > 0 {
		all = append(all, Posting{Brand: brand, Sort: AuditEvents, Bucket: BucketOf(at), Acknowledged: int64(others)})
	}
	return all
}

// PostRelease is the posting of an entry of the quarantine that is taken out.
func PostRelease(received time.Time) Posting {
	return Posting{Sort: AuditBodies, Bucket: BucketOf(received), Acknowledged: -1}
}

// PostRetry and PostDrop are the postings of a dead letter that is retried or dropped
// at a time; none, if nobody counts it.
func PostRetry(d *DeadLetter, at time.Time) []Posting { return d.post(Posting{Dead: -1}, at) }

// PostDrop is described with PostRetry.
func PostDrop(d *DeadLetter, at time.Time) []Posting { return d.post(Posting{Dropped: 1}, at) }

func (d *DeadLetter) post(p Posting, at time.Time) []Posting {
	if !d.Counted() {
		return nil
	}
	p.Brand, p.Sort, p.Bucket = d.Conversation.Channel.Brand, AuditEvents, BucketOf(at)
	return []Posting{p}
}

// Counted reports whether the letter is of an event that was acknowledged.
func (d *DeadLetter) Counted() bool { return d.Kind() == DeadEvent && !OfOwn(d.Data) }

// Others counts the rows of a fold that are echoes of somebody else's.
func Others(rows []Pending) (n int) {
	for i := range rows {
		if _, ok := rows[i].Input.(Echo); ok {
			n++
		}
	}
	return n
}

// Account is a store's ledger as an operator looks at it.
type Account struct {
	At     time.Time  `json:"at" doc:"The moment of it, by the store's clock"`
	AddsUp bool       `json:"adds_up" doc:"Both sides are equal: of each brand, in each stretch of 5 minutes, and so in whole. False also while not all is counted"`
	Opened *time.Time `json:"opened,omitempty" doc:"Since when all is counted; absent while it is not"`
	Why    string     `json:"why,omitempty" doc:"Why not all is counted"`
	Since  *time.Time `json:"since,omitempty" doc:"Only what was accepted from then on is in the terms; absent: all is"`
	Whole  AuditTerms `json:"whole" doc:"All brands, and what has none: the quarantine and the spool"`
	// Receipts cost no turn and have no names: they are a class of their own.
	Receipts AuditTerms `json:"receipts" doc:"Of the whole, what is of receipts: statuses and echoes, which are counted when they are acknowledged and when they are folded, and listed nowhere. They have no time of acceptance: with since there are none"`
	// Brands are without what is in the quarantine and the spool: these have none yet.
	Brands []BrandAudit `json:"brands" nullable:"false" doc:"Of each brand; what is in the quarantine or the spool has none yet"`
	Lost   []LostEvent  `json:"lost" nullable:"false" doc:"Events that were acknowledged, don't wait, and had no turn: the first of them"`
	Silent []string     `json:"silent" nullable:"false" doc:"Members that did not tell what is on their disks only: on both sides this is left out"`
	// Unnamed is how many are missing that nobody can be named for.
	Unnamed int64 `json:"unnamed" doc:"Missing, but not among the lost: events longer ago than 48 hours, repeats, receipts, dead letters, or nothing but a wrong count"`
}

// BrandAudit is the terms of one brand.
type BrandAudit struct {
	Brand Brand `json:"brand" doc:"The brand"`
	AuditTerms
}

// LostEvent is an event that was acknowledged and is nowhere. Nothing is told of what
// was in it.
type LostEvent struct {
	Conversation string    `json:"conversation" doc:"brand/kind/channel/contact, as logs show it"`
	Key          string    `json:"key" doc:"The event's key, in hexadecimal"`
	Accepted     time.Time `json:"accepted" doc:"Beginning of the 5 minutes in which it was accepted"`
}
