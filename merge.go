package parley

import (
	"encoding/binary"
	"slices"
	"time"
)

// MayMerge reports whether younger may be merged into survivor: they are two
// conversations of one channel, neither is part of another already, and the
// survivor stays within MaxAbsorbed.
func MayMerge(survivor, younger *Snapshot) bool {
	a, b := survivor.Conversation, younger.Conversation
	return a.Channel == b.Channel && a.Contact != b.Contact &&
		survivor.MergedInto == "" && younger.MergedInto == "" &&
		len(absorb(survivor, younger)) <= MaxAbsorbed
}

// Merge makes one conversation of two that turned out to be with the same
// person. The store takes both commits in one transaction or neither; they
// consume no rows. Both versions move, so that a turn that began before the
// merge, on either side, conflicts.
//
// The survivor's state goes on; the younger's only if the survivor has none.
// The keys seen are those of both, so that a repeat of any event of either is
// recognised, with an Older that covers both: the 64 last of the union leave no
// later than 64 last of one part did, which keeps the reasoning of
// [Snapshot.NeedsOlder] true. The timers of both are set anew, with the due
// times they had and with generations that neither side has used: an entry or
// an inbox row of the time before is stale, and can't be mistaken for another.
// Of two timers of one name the survivor's stays, and so it is with calls and
// attributes. There may be more than
// MaxTimers then: none is lost, and turns may not add to them.
//
// The younger is left with nothing but where it went. It never has a turn again.
func Merge(survivor, younger Snapshot, at time.Time, nonce [16]byte) (into, from Commit) {
	at = latest(ceil(at.UTC()), survivor.Last, younger.Last)
	from = leave(&younger, survivor.Conversation.Contact, at, nonce)
	into = Commit{Conversation: survivor.Conversation, Base: survivor.Version, CancelTimers: slices.Clone(survivor.Timers)}
	next := survivor
	if len(survivor.State) == 0 && survivor.Behavior == "" {
		next.Bot, next.BotVersion = younger.Bot, younger.BotVersion
		next.Behavior, next.State = younger.Behavior, younger.State
	}
	next.Version = Version{Number: survivor.Version.Number + 1, Token: Token(binary.BigEndian.Uint64(nonce[:]))}
	next.Last, next.Ahead = at, latest(survivor.Ahead, younger.Ahead)
	next.Heard = survivor.Heard.join(younger.Heard)
	next.Absorbed = absorb(&survivor, &younger)
	into.Evicted, next.Seen = forgetOld(seenByEither(survivor.Seen, younger.Seen))
	setAnew(&next, &younger, at, nonce)
	next.joinDialog(&younger)
	if next.Speaker != SpeakerBot { // the one whose bot had the word until now
		into.Silence, from.Silence = survivor.spoken(), younger.spoken()
	}
	into.SetTimers = slices.Clone(next.Timers)
	into.Next = next
	into.History = mergeRecord(&into.Next, at, next.Bot, "merged", younger.Conversation.Contact)
	return into, from
}

// spoken is the ordinal up to which the bot has had the word; 0 if it hasn't got it.
func (s *Snapshot) spoken() uint64 {
	if s.Speaker != SpeakerBot {
		return 0
	}
	return s.Ordinal
}

// leave is the commit of the younger.
func leave(younger *Snapshot, into Contact, at time.Time, nonce [16]byte) Commit {
	c := Commit{Conversation: younger.Conversation, Base: younger.Version, CancelTimers: slices.Clone(younger.Timers)}
	c.Next = Snapshot{
		Conversation: younger.Conversation,
		Version:      Version{Number: younger.Version.Number + 1, Token: Token(binary.BigEndian.Uint64(nonce[8:]))},
		MergedInto:   into,
	}
	c.History = mergeRecord(&c.Next, at, younger.Bot, "merged_into", into)
	return c
}

// absorb is the survivor's Absorbed after the merge.
func absorb(survivor, younger *Snapshot) []Contact {
	out := slices.Clone(survivor.Absorbed)
	for _, c := range append([]Contact{younger.Conversation.Contact}, younger.Absorbed...) {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// seenByEither is the union of the keys, by the time of their effect. What both
// saw, each before the other was known to be the same, counts from the later.
func seenByEither(a, b []SeenKey) []SeenKey {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(x, y SeenKey) int { return x.At.Compare(y.At) })
	later := make(map[EventKey]bool, len(all))
	kept := len(all)
	for i := range slices.Backward(all) {
		if !later[all[i].Key] {
			later[all[i].Key] = true
			kept--
			all[kept] = all[i]
		}
	}
	return all[kept:]
}

// setAnew gives next, which is the survivor's, the live timers of both with
// fresh generations and ids.
func setAnew(next, younger *Snapshot, at time.Time, nonce [16]byte) {
	timers := slices.Clone(next.Timers)
	for _, t := range younger.Timers {
		if next.timer(t.Name) < 0 && (t.Name != speakerTimer || next.Speaker == SpeakerBot) {
			timers = append(timers, t)
		}
	}
	next.Generation = max(next.Generation, younger.Generation)
	for i := range timers {
		next.Generation++
		timers[i].Generation = next.Generation
		timers[i].ID = deriveID(nonce, uint64(i)+1, at)
	}
	next.Timers = timers
}

// joinDialog gives s what the younger knows of the contact and waits for. Where both
// know of something, s's own stays: of two calls of one name, too.
func (s *Snapshot) joinDialog(younger *Snapshot) {
	if s.Speaker == SpeakerBot {
		s.Speaker = younger.Speaker
	}
	s.Calls = slices.Clone(s.Calls)
	for _, c := range younger.Calls {
		if s.call(c.Name) < 0 {
			s.Calls = append(s.Calls, c)
		}
	}
	for _, a := range younger.Attributes {
		if s.Attribute(a.Name) == "" {
			s.setAttribute(a.Name, a.Value)
		}
	}
	for _, tag := range younger.Tags {
		s.tag(tag, true)
	}
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}
