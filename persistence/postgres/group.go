package postgres

import (
	"slices"

	"github.com/parleychat/parley"
)

// group is commits on their way into one transaction, as the arrays that its
// statements take. The places of commits in them begin with 1, as SQL counts.
type group struct {
	of      []int // places in the caller's list
	commits []*parley.Commit
	bytes   int

	fresh                    [][]byte // conversations that may have no row
	convs                    [][]byte
	baseVersions, baseTokens []int64
	shards                   []int16
	through                  []int64
	sawFrom, sawTo           []int32
	versions, tokens         []int64
	formats                  []int16
	snapshots                [][]byte
	sawSeqs, sawTokens       []int64

	sent      outboxRows
	cancelled struct {
		places []int32
		ids    [][16]byte
	}
	set  timerRows
	seen struct {
		places, days []int32
		convs, keys  [][]byte
		at           []int64
	}
	records struct {
		places         []int32
		convs, records [][]byte
		versions       []int64
	}
	dead   deadRows
	calls  callRows
	silent struct {
		places   []int32
		convs    [][]byte
		ordinals []int64
		own      []bool
	}
	counts struct {
		places                             []int32
		brands                             [][]byte
		buckets, effected, duplicate, dead []int64
	}
}

type outboxRows struct {
	places                []int32
	ids                   [][16]byte
	channels, convs, data [][]byte
	ordinals, at          []int64
	first, bulk           []bool
}

type timerRows struct {
	places            []int32
	ids               [][16]byte
	shards            []int16
	convs, keys, data [][]byte
	due               []int64
}

type deadRows struct {
	places                      []int32
	brands, convs, causes, data [][]byte
	ids                         [][16]byte
	at, seqs                    []int64
}

// add takes a commit in. Commits are added in the order of their keys.
func (g *group) add(i int, c *parley.Commit) {
	g.of, g.commits = append(g.of, i), append(g.commits, c)
	place, key := int32(len(g.of)), conversationKey(c.Conversation)
	if c.Base == (parley.Version{}) {
		g.fresh = append(g.fresh, key)
	}
	g.convs, g.shards = append(g.convs, key), append(g.shards, int16(c.Conversation.Shard()))
	g.baseVersions, g.baseTokens = append(g.baseVersions, int64(c.Base.Number)), append(g.baseTokens, int64(c.Base.Token))
	g.versions, g.tokens = append(g.versions, int64(c.Next.Version.Number)), append(g.tokens, int64(c.Next.Version.Token))
	snapshot, format := packSnapshot(&c.Next)
	g.snapshots, g.formats = append(g.snapshots, snapshot), append(g.formats, format)
	g.bytes += len(snapshot) + len(c.History)
	g.through = append(g.through, int64(c.Through))
	g.sawFrom = append(g.sawFrom, int32(len(g.sawSeqs))+1)
	for _, row := range c.Saw {
		g.sawSeqs, g.sawTokens = append(g.sawSeqs, int64(row.Seq)), append(g.sawTokens, int64(row.Token))
	}
	g.sawTo = append(g.sawTo, int32(len(g.sawSeqs)))
	g.addOutbox(place, key, c)
	g.addTimers(place, key, c)
	g.addRecords(place, key, c)
	g.addCalls(place, key, c)
	g.addCounts(place, c)
}

// addOutbox adds messages, and what is silenced, these or those of before. Only the
// first may be at the head of its conversation.
func (g *group) addOutbox(place int32, key []byte, c *parley.Commit) {
	channel := channelKey(c.Conversation.Channel)
	o := &g.sent
	for n := range c.Outbox {
		m := &c.Outbox[n]
		data := encodeContent(m)
		o.places, o.ids, o.channels = append(o.places, place), append(o.ids, m.ID), append(o.channels, channel)
		o.convs, o.ordinals, o.at = append(o.convs, key), append(o.ordinals, int64(m.Ordinal)), append(o.at, toMS(m.At))
		o.data, o.first = append(o.data, data), append(o.first, n == 0)
		o.bulk = append(o.bulk, allBulk(c.Outbox[n:]))
		g.bytes += len(data)
	}
	if s := &g.silent; c.Silence > 0 {
		s.places, s.convs, s.ordinals = append(s.places, place), append(s.convs, key), append(s.ordinals, int64(c.Silence))
		s.own = append(s.own, len(c.Outbox) > 0 && c.Outbox[0].Ordinal <= c.Silence)
	}
}

// allBulk reports whether messages wait in the second lane: none of what comes
// after the first of them in its turn is to be waited for.
func allBulk(messages []parley.Outgoing) bool {
	return !slices.ContainsFunc(messages, func(m parley.Outgoing) bool { return !m.Send.Bulk })
}

// addTimers adds timers, each with the input that it will be, so that moving it
// to the inbox needs nobody to read it.
func (g *group) addTimers(place int32, key []byte, c *parley.Commit) {
	for _, t := range c.CancelTimers {
		g.cancelled.places, g.cancelled.ids = append(g.cancelled.places, place), append(g.cancelled.ids, t.ID)
	}
	s := &g.set
	for _, t := range c.SetTimers {
		eventKey := timerKey(c.Conversation, t.ID)
		s.places, s.ids, s.shards = append(s.places, place), append(s.ids, t.ID), append(s.shards, int16(c.Conversation.Shard()))
		s.convs, s.due = append(s.convs, key), append(s.due, toMS(t.Due))
		s.keys, s.data = append(s.keys, eventKey[:]), append(s.data, encodeTimer(t))
	}
}

func (g *group) addRecords(place int32, key []byte, c *parley.Commit) {
	for _, k := range c.Evicted {
		at := toMS(k.At)
		g.seen.places, g.seen.days = append(g.seen.places, place), append(g.seen.days, day(at))
		g.seen.convs, g.seen.keys, g.seen.at = append(g.seen.convs, key), append(g.seen.keys, k.Key[:]), append(g.seen.at, at)
	}
	if len(c.History) > 0 {
		h := &g.records
		h.places = append(h.places, place)
		h.convs, h.records = append(h.convs, key), append(h.records, c.History)
		h.versions = append(h.versions, int64(c.Next.Version.Number))
	}
	for n := range c.Dead {
		d := &c.Dead[n]
		r := &g.dead
		r.places, r.brands, r.ids = append(r.places, place), append(r.brands, bytesOf(d.Conversation.Channel.Brand)), append(r.ids, d.ID)
		r.convs, r.at, r.causes = append(r.convs, conversationKey(d.Conversation)), append(r.at, toMS(d.At)), append(r.causes, bytesOf(d.Cause))
		r.seqs, r.data = append(r.seqs, int64(d.Seq)), append(r.data, some(d.Data))
	}
}

// addCounts adds what has become of the rows.
func (g *group) addCounts(place int32, c *parley.Commit) {
	n := &g.counts
	for i := range c.Postings {
		p := &c.Postings[i]
		n.places, n.brands, n.buckets = append(n.places, place), append(n.brands, bytesOf(p.Brand)), append(n.buckets, p.Bucket)
		n.effected, n.duplicate, n.dead = append(n.effected, p.Effected), append(n.duplicate, p.Duplicate), append(n.dead, p.Dead)
	}
}

// arguments are those of applySQL, in its order.
func (g *group) arguments(now *int64) []any {
	s, t, d, c, n, q := &g.sent, &g.set, &g.dead, &g.calls, &g.counts, &g.silent
	return []any{
		g.convs, g.shards, g.through, g.sawFrom, g.sawTo, g.versions, g.tokens, g.formats, g.snapshots, array(g.sawSeqs), array(g.sawTokens),
		array(s.places), array(s.ids), array(s.channels), array(s.convs), array(s.ordinals), array(s.at), array(s.data), array(s.first),
		array(g.cancelled.places), array(g.cancelled.ids),
		array(t.places), array(t.ids), array(t.shards), array(t.convs), array(t.due), array(t.keys), array(t.data),
		array(g.seen.places), array(g.seen.days), array(g.seen.convs), array(g.seen.keys), array(g.seen.at),
		array(g.records.places), now, array(g.records.convs), array(g.records.versions), array(g.records.records),
		array(d.places), array(d.brands), array(d.ids), array(d.convs), array(d.at), array(d.causes), array(d.seqs), array(d.data), array(s.bulk),
		array(c.places), array(c.ids), array(c.convs), array(c.services), array(c.at), array(c.data), array(c.cancelledPlaces), array(c.cancelled),
		array(n.places), array(n.brands), array(n.buckets), array(n.effected), array(n.duplicate), array(n.dead),
		array(q.places), array(q.convs), array(q.ordinals), array(q.own),
	}
}

// array is of as an array, empty rather than null.
func array[T any](of []T) []T {
	if of == nil {
		return []T{}
	}
	return of
}

// encodeContent is the stored form of a message's content.
func encodeContent(o *parley.Outgoing) []byte {
	b, _ := o.EncodeContent() // it was validated: it has a form
	return b
}

// timerKey is the event key of a timer.
func timerKey(c parley.Conversation, id parley.ID) parley.EventKey {
	return parley.NewEventKey("timer", c.String(), id.String())
}

// encodeTimer is the input that a timer will be.
func encodeTimer(t parley.Timer) []byte {
	b, _ := parley.EncodeInput(parley.TimerFired{Name: t.Name, Generation: t.Generation, Due: fromMS(toMS(t.Due))}) // as above
	return b
}
