package parley

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Commit is what a turn decided. The store takes it whole or not at all: it
// consumes every inbox row of the conversation up to Through, and compares them
// with Saw and the stored version with Base. If either differs, another row or
// another turn came between, and nothing of the commit is written (ErrConflict).
type Commit struct {
	Conversation Conversation
	Base         Version // of the snapshot that the turn began with
	Through      Seq
	Saw          []Row
	Next         Snapshot  // to be written, with its new version
	Evicted      []SeenKey // keys that no longer fit into Next, for the chunks by day
	Outbox       []Outgoing
	// Silence, if not 0: somebody else was given the word. The bot's messages up to
	// this ordinal that haven't left the outbox, those of this very commit and all of
	// what the conversation has absorbed among them, aren't to be sent any more; see
	// Claimed.Silenced. It is taken together with the rest.
	Silence      uint64
	Withheld     int            // messages that weren't sent, since somebody else has the word
	Calls        []OutgoingCall // to be made
	CancelCalls  []ID           // calls to be dropped, if not answered yet
	SetTimers    []Timer
	CancelTimers []Timer // entries to take out of the due list, if still there
	Dead         []DeadLetter
	Postings     []Posting // what has become of the rows, one for each bucket
	History      []byte    // a JSON record of what came in and what was decided
	// Format is the generation of stored forms that this takes; see the constant.
	Format int
	// PutOff, if not empty, is why this must not be written: there was no turn, and
	// beside Conversation and Base there is nothing in it.
	PutOff PutOff
}

// Circumstance is what a turn needs to know beside the snapshot and the rows,
// and can't find out by itself, being pure.
type Circumstance struct {
	// Nonce is drawn at random for each turn. The next version's token and all
	// ids of the commit derive from it.
	Nonce [16]byte
	// Older are those of the rows' keys that took effect longer ago than the
	// snapshot remembers (see Snapshot.NeedsOlder).
	Older map[EventKey]bool
	// Condemned are rows that must not be run, with the reason: they ended the
	// process before, or never came to an end.
	Condemned map[Row]string
	// Format is the newest generation of stored forms that everybody reads who may
	// load this conversation; 0: Format. The commit does without what it can do
	// without; what it says is its Format may still be newer, and it must not be
	// written then.
	Format int
	// BotVersion is the newest version of the bot that everybody reads who may load
	// this conversation; 0: Bot.Version. See Bot.Previous.
	BotVersion int
	// Thread, if not empty, is the app that gets the conversation's thread at Meta when
	// the bot gives the word away, and from which the bot takes it back: Meta's number
	// of it. It is for Messenger and Instagram.
	Thread string
	// Begin, if set, is told which row is about to be run. It exists so that the
	// row can be named if the process dies of it.
	Begin func(Row)
}

// Step is the heart of Parley: it lets the bot handle the pending rows in their
// order, and returns what is to be committed. The rows must be of one
// conversation, sorted by Seq, and not empty. An event that fails becomes a
// dead letter and changes nothing else; the rows after it are handled from the
// state before it. Step itself can't fail; it may find that nobody must take the
// turn now (Commit.PutOff).
func Step(bot *Bot, s Snapshot, rows []Pending, c Circumstance) Commit {
	bot, why := bot.at(&s, c.BotVersion)
	if why != "" {
		return Commit{Conversation: s.Conversation, Base: s.Version, PutOff: why}
	}
	w := work{bot: bot, c: c, next: s}
	w.next.Seen = append(make([]SeenKey, 0, len(s.Seen)+len(rows)), s.Seen...)
	w.next.Timers = slices.Clone(s.Timers)
	w.next.Version = Version{Number: s.Version.Number + 1, Token: Token(binary.BigEndian.Uint64(c.Nonce[:]))}
	w.out = Commit{Conversation: s.Conversation, Base: s.Version}
	for i := range rows {
		w.row(&rows[i])
	}
	w.out.Evicted, w.next.Seen = forgetOld(w.next.Seen)
	w.out.Through = rows[len(rows)-1].Seq
	w.out.Format = w.format(&s)
	w.out.Next = w.next
	w.out.History = w.history.end(w.next, bot.Name)
	return w.out
}

// work is a step under way.
type work struct {
	bot     *Bot
	c       Circumstance
	next    Snapshot
	out     Commit
	ids     uint64
	began   uint64 // the last ordinal when the turn began
	moved   bool   // what came in shows that the thread has moved already
	history history
}

func (w *work) row(p *Pending) {
	w.out.Saw = append(w.out.Saw, p.Row)
	now := w.now(p)
	if w.next.seen(p.Key) || w.c.Older[p.Key] {
		w.post(p).Duplicate++
		w.history.add(p, repeated)
		return
	}
	w.next.Last, w.next.Heard = now, w.next.Heard.hear(p, now)
	w.next.Seen = append(w.next.Seen, SeenKey{Key: p.Key, At: now})
	if p.Time.After(now.Add(ClockSkew)) && p.Time.After(w.next.Ahead) {
		w.next.Ahead = ceil(p.Time.UTC()) // see NeedsOlder
	}
	w.post(p).Effected++ // unless it fails
	w.began, w.moved = w.next.Ordinal, movesThread(p.Input)
	in, live := w.receive(p.Input, now)
	if !live {
		w.history.add(p, stale)
		return
	}
	event, before := *p, w.next
	event.Input = in
	t := Turn{conversation: w.next.Conversation, now: now, event: &event, before: &before, state: w.next.State}
	if err := w.run(&t); err != nil {
		w.bury(p, now, err)
		return
	}
	w.history.turn(p, "", &t, w.apply(&t))
}

// receive is the input as the behaviour meets it. False: it answers something that
// the conversation no longer waits for.
func (w *work) receive(in Input, now time.Time) (Input, bool) {
	switch in := in.(type) {
	case TimerFired:
		if !w.fire(in) {
			return nil, false
		}
		if in.Name == speakerTimer {
			return w.returned(in, now), true
		}
	case Called:
		return in, w.answer(in)
	default: // nothing that it waits for
	}
	return in, true
}

// now is the time of the turn that handles p. The store's clock may be set back;
// a conversation's time never is.
func (w *work) now(p *Pending) time.Time {
	received := ceil(p.Received.UTC()) // the same, wherever the row came from
	if w.next.Last.After(received) {
		return w.next.Last
	}
	return received
}

// fire takes a due timer from the live ones. False: it was cancelled or set
// anew after it had been moved to the inbox. One that is retried was taken from
// them when it failed: it fires unless it was set anew, which is the one to fire.
func (w *work) fire(f TimerFired) bool {
	i := w.next.timer(f.Name)
	if f.Retried {
		return i < 0
	}
	if i < 0 || w.next.Timers[i].Generation != f.Generation {
		return false
	}
	w.next.Timers = slices.Delete(w.next.Timers, i, i+1)
	return true
}

// run calls the behaviour. Whatever is wrong with the turn is its error.
func (w *work) run(t *Turn) (fault *TurnError) {
	if cause, ok := w.c.Condemned[t.event.Row]; ok {
		return &TurnError{Kind: TurnCondemned, Cause: cause}
	}
	if w.c.Begin != nil {
		w.c.Begin(t.event.Row)
	}
	behavior, fault := w.receiver(t)
	if fault == nil {
		fault = w.hand(behavior, t)
	}
	if w.fallsBack(t, fault) {
		fault = w.hand(w.bot.Fallback, t)
	}
	return fault
}

// hand gives the turn to a behaviour.
func (w *work) hand(behavior Behavior, t *Turn) (fault *TurnError) {
	defer func() {
		if r := recover(); r != nil {
			fault = &TurnError{Kind: TurnPanicked, Cause: panicCause(r)}
		}
	}()
	if err := behavior.Receive(t); err != nil {
		if errors.As(err, &fault) && fault != nil {
			return fault
		}
		return &TurnError{Kind: TurnReturned, Cause: err.Error()}
	}
	if t.fault == nil {
		t.fault = w.tooMuch(t)
	}
	return t.fault
}

// panicCause keeps runtime errors, which say where code went wrong, and only
// the type of other values, which may hold a message.
func panicCause(r any) string {
	if err, ok := r.(interface{ RuntimeError() }); ok {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("panic with a value of type %T", r)
}

// tooManyTimers counts the timers that would be live after the turn. A merged
// conversation may have begun with more than MaxTimers: it may not add to them.
func (w *work) tooManyTimers(t *Turn) *TurnError {
	isSet := func(e Effect) bool { _, ok := e.(SetTimer); return ok }
	if !slices.ContainsFunc(t.effects, isSet) {
		return nil
	}
	live := map[string]bool{}
	for _, timer := range w.next.Timers {
		live[timer.Name] = true
	}
	for _, e := range t.effects {
		switch e := e.(type) {
		case SetTimer:
			live[e.Name] = true
		case CancelTimer:
			delete(live, e.Name)
		case End:
			clear(live)
		case Send, Become, Call, CancelCall, HandOff, Resume, SetAttribute, Tag, Untag:
		}
	}
	if len(live) > max(MaxTimers, len(w.next.Timers)) {
		return limitError("%d live timers: at most %d (MaxTimers)", len(live), MaxTimers)
	}
	return nil
}

// apply makes the turn's effects part of the commit, but for the messages that it
// returns, a bit each: somebody else has the word.
func (w *work) apply(t *Turn) (withheld uint32) {
	w.next.State = t.state
	if t.wrote || t.migrated || len(t.state) == 0 { // what a bot only carries on is still of the form it found
		w.next.Bot, w.next.BotVersion = w.bot.Name, w.bot.Version
	}
	w.buryKept(t)
	for i, e := range t.effects {
		s, isSend := e.(Send)
		switch {
		case isSend && !w.maySpeak(&s):
			withheld |= 1 << i
			w.out.Withheld++
		case isSend && w.inVain(t.event, &s):
			w.dropSend(t, s)
		default:
			w.effect(e, t.now)
		}
	}
	return withheld
}

// inVain reports whether a turn that has just heard of a refusal sends what would
// be refused for the same: a bot that answers whatever it hears would do so for
// ever.
func (w *work) inVain(p *Pending, s *Send) bool {
	f, ok := p.Input.(SendFailed)
	if !ok {
		return false
	}
	switch f.failure() {
	case WindowClosed:
		return s.Template == nil && s.Private == nil
	case OptedOut:
		return s.Template != nil && s.Template.Category == Marketing
	}
	return false
}

// dropSend makes a dead letter of a message that isn't worth sending.
func (w *work) dropSend(t *Turn, s Send) {
	f, _ := t.event.Input.(SendFailed)
	data, _ := EncodeEffect(s) // a turn's effects have a form
	w.out.Dead = append(w.out.Dead, DeadLetter{
		ID: w.newID(t.now), Conversation: w.next.Conversation, At: t.now,
		Cause: "sent when told that such can't be sent: " + string(f.failure()), Data: data,
	})
}

func (w *work) effect(e Effect, now time.Time) {
	switch e := e.(type) {
	case Send:
		w.next.Ordinal++
		w.out.Outbox = append(w.out.Outbox, Outgoing{
			ID: w.newID(now), Conversation: w.next.Conversation, Ordinal: w.next.Ordinal, At: now, Send: e,
			Heard: w.next.Heard,
		})
	case SetTimer:
		w.setTimer(e.Name, e.In, now)
	case CancelTimer:
		w.cancel(e.Name)
	case Call:
		w.call(e, now)
	case CancelCall:
		w.cancelCall(e.Name)
	case HandOff:
		w.handOff(e, now)
	case Resume:
		w.takeThread(now)
		w.resume()
	case SetAttribute:
		w.next.setAttribute(e.Name, e.Value)
	case Tag:
		w.next.tag(e.Name, true)
	case Untag:
		w.next.tag(e.Name, false)
	case Become:
		w.next.Behavior = e.Behavior
	case End:
		w.end()
	}
}

// end forgets the dialogue, but not who has the word.
func (w *work) end() {
	for _, t := range slices.Clone(w.next.Timers) {
		if t.Name != speakerTimer {
			w.cancel(t.Name)
		}
	}
	for len(w.next.Calls) > 0 {
		w.cancelCall(w.next.Calls[0].Name)
	}
	w.next.State, w.next.Behavior = nil, ""
}

func (w *work) setTimer(name string, d time.Duration, now time.Time) {
	w.cancel(name)
	w.next.Generation++
	set := Timer{ID: w.newID(now), Name: name, Generation: w.next.Generation, Due: ceil(now.Add(d))}
	w.next.Timers = append(w.next.Timers, set)
	w.out.SetTimers = append(w.out.SetTimers, set)
}

// cancel takes the timer of that name from the live ones, and its entry from
// the due list: also one that this very commit was going to set.
func (w *work) cancel(name string) {
	i := w.next.timer(name)
	if i < 0 {
		return
	}
	gone := w.next.Timers[i]
	w.next.Timers = slices.Delete(w.next.Timers, i, i+1)
	same := func(t Timer) bool { return t.ID == gone.ID }
	if j := slices.IndexFunc(w.out.SetTimers, same); j >= 0 {
		w.out.SetTimers = slices.Delete(w.out.SetTimers, j, j+1)
		return
	}
	w.out.CancelTimers = append(w.out.CancelTimers, gone)
}

// ceil rounds up to the milliseconds in which times are stored: a timer never
// fires early, and what is remembered of a time is never before it.
func ceil(t time.Time) time.Time {
	if whole := t.Truncate(time.Millisecond); whole.Before(t) {
		return whole.Add(time.Millisecond)
	}
	return t
}

// post is the counts of the rows that were accepted with p. Those of Parley's own
// making are counted where nobody looks.
func (w *work) post(p *Pending) *Posting {
	if isOwn(p.Input) {
		return &Posting{}
	}
	return w.posting(BucketOf(p.Received))
}

func (w *work) posting(bucket int64) *Posting {
	n := len(w.out.Postings)
	for i := range n {
		if w.out.Postings[i].Bucket == bucket {
			return &w.out.Postings[i]
		}
	}
	w.out.Postings = append(w.out.Postings, Posting{Brand: w.next.Conversation.Channel.Brand, Sort: AuditEvents, Bucket: bucket})
	return &w.out.Postings[n]
}

// bury makes the row a dead letter.
func (w *work) bury(p *Pending, now time.Time, fault *TurnError) {
	row := w.post(p)
	row.Effected--
	row.Dead++
	cause := cut(fault.Error(), MaxCauseBytes)
	w.out.Dead = append(w.out.Dead, DeadLetter{
		ID: w.newID(now), Conversation: w.next.Conversation, At: now, Cause: cause, Seq: p.Seq, Data: p.Data,
	})
	w.history.add(p, cause)
}

// buryKept makes dead letters of inputs that the behaviour had kept. They have the
// number of the turn's row, and are counted with it, their own being past.
func (w *work) buryKept(t *Turn) {
	for _, b := range t.buried {
		if !OfOwn(b.data) {
			row := w.posting(BucketOf(t.event.Received))
			row.Effected--
			row.Dead++
		}
		w.out.Dead = append(w.out.Dead, DeadLetter{
			ID: w.newID(t.now), Conversation: w.next.Conversation, At: t.now, Cause: b.told(), Seq: t.event.Seq, Data: b.data,
		})
	}
}

// cut is s as valid UTF-8 of at most limit bytes.
func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// forgetOld parts the keys that no longer fit into a snapshot from the rest.
func forgetOld(seen []SeenKey) (evicted, inline []SeenKey) {
	if n := len(seen) - InlineSeen; n > 0 {
		return seen[:n:n], seen[n:]
	}
	return nil, seen
}

// newID derives the commit's ids from the nonce: unique like the nonce, and the
// same whenever the same step is taken again.
func (w *work) newID(at time.Time) ID {
	w.ids++
	return deriveID(w.c.Nonce, w.ids, at)
}

func deriveID(nonce [16]byte, n uint64, at time.Time) ID {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nonce[:], n))
	return NewID(at, [16]byte(sum[:16]))
}
