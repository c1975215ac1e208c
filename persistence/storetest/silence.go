package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runSilence(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"WhatWasDecidedBefore":       silenceBefore,
		"OfThisVeryCommit":           silenceOfThisVeryCommit,
		"WithTheCommitOrNotAtAll":    silenceWithTheCommit,
		"AlsoWhatIsClaimed":          silenceClaimed,
		"AllThatWasAbsorbed":         silenceAbsorbed,
		"OnceMore":                   silenceOnceMore,
		"AMergeSilencesEitherSide":   silenceByMerge,
		"UntilItHasLeftAndNotBeyond": silenceUntilItHasLeft,
	})
}

// wordGoes is a turn of c that gives the word away, after it has said texts.
func (d *desk) wordGoes(c parley.Conversation, texts ...string) []parley.Outgoing {
	d.t.Helper()
	turn := d.turn(d.load(c))
	turn.Silence = turn.Next.Ordinal
	out := d.replies(&turn, texts...)
	d.commit(turn)
	return out
}

// leave claims and settles messages one after the other, and tells which of them were
// silenced.
func (d *desk) leave(l parley.Lease, want ...parley.Outgoing) (silenced []bool) {
	d.t.Helper()
	for _, o := range want {
		silenced = append(silenced, d.claims(l, o)[0].Silenced)
		kind := parley.Sent
		if silenced[len(silenced)-1] {
			kind = parley.Returned
		}
		d.settle(l, parley.Outcome{ID: o.ID, Kind: kind, Why: parley.TakenOver, ProviderID: "mid." + o.ID.String()})
	}
	return silenced
}

func silenceBefore(_ *testing.T, d *desk) {
	other := d.send(conv("b"), "of another")
	l := d.lease("s", parley.Lease{})
	d.same("of another", d.leave(l, other...), []bool{false})
	before := d.send(conv("a"), "1", "2")
	notice := d.wordGoes(conv("a"), "a colleague will answer you")
	after := d.send(conv("a"), "3")
	d.same("silenced", d.leave(l, slices.Concat(before, notice, after)...), []bool{true, true, false, false})
	loaded := d.load(conv("a"))
	for i, p := range loaded.Pending {
		if f, ok := p.Input.(parley.SendFailed); !ok || f.ID != before[i].ID || f.Why != parley.TakenOver {
			d.t.Errorf("the bot hears %+v", p.Input)
		}
	}
	d.same("told", len(loaded.Pending), 2)
}

func silenceOfThisVeryCommit(_ *testing.T, d *desk) {
	turn := d.turn(d.load(conv("a")))
	out := d.replies(&turn, "of a turn before", "of the turn that hands over")
	turn.Silence = out[0].Ordinal
	d.commit(turn)
	d.same("silenced", d.leave(d.lease("s", parley.Lease{}), out...), []bool{true, false})
}

func silenceWithTheCommit(_ *testing.T, d *desk) {
	before := d.send(conv("a"), "1")
	turn := d.turn(d.load(conv("a")))
	turn.Silence = turn.Next.Ordinal
	turn.Base.Token++
	d.conflict(turn)
	d.same("silenced", d.leave(d.lease("s", parley.Lease{}), before...), []bool{false})
}

// silenceClaimed: it is with its sender, or with one who is gone, and comes back.
func silenceClaimed(_ *testing.T, d *desk) {
	refused, lost, doubtful := d.send(conv("a"), "1"), d.send(conv("b"), "1"), d.send(conv("c"), "1")
	l := d.lease("s", parley.Lease{})
	for _, c := range d.claims(l, refused[0], lost[0], doubtful[0]) {
		d.same("at first", c.Silenced, false)
	}
	for _, name := range []string{"a", "b", "c"} {
		d.wordGoes(conv(name))
	}
	d.settle(l, parley.Outcome{ID: refused[0].ID, Kind: parley.Retry}, parley.Outcome{ID: doubtful[0].ID, Kind: parley.Doubt})
	for _, c := range d.claims(l, refused[0], doubtful[0]) {
		d.same("when it comes back", c.Silenced, true)
		d.settle(l, parley.Outcome{ID: c.ID, Kind: parley.Returned, Why: parley.TakenOver})
	}
	d.clock.Add(leaseTTL)
	l = d.lease("its successor", parley.Lease{})
	d.clock.Add(doubtfulWait)
	l = d.lease("its successor", l)
	got := d.claims(l, lost[0])[0]
	d.same("doubtful and silenced", []bool{got.Doubtful, got.Silenced}, []bool{true, true})
}

func silenceAbsorbed(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 1)
	meet(d, "bsuid:x", "phone:1")
	notice := d.wordGoes(older(), "a colleague")
	d.same("silenced", d.leave(l, slices.Concat(ofYounger, ofOlder, notice)...), []bool{true, true, false})
}

// silenceOnceMore: the word came back in between.
func silenceOnceMore(_ *testing.T, d *desk) {
	first, notice := d.send(conv("a"), "1"), d.wordGoes(conv("a"), "a colleague")
	second, again := d.send(conv("a"), "2"), d.wordGoes(conv("a"), "a colleague again")
	d.same("silenced", d.leave(d.lease("s", parley.Lease{}), slices.Concat(first, notice, second, again)...), []bool{true, true, true, false})
}

// silenceByMerge: who is found to be the same speaks with a person on one side.
func silenceByMerge(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 1)
	turn := d.turn(d.load(older()))
	turn.Silence, turn.Next.Speaker = turn.Next.Ordinal, parley.SpeakerPerson
	notice := d.replies(&turn, "a colleague")
	d.commit(turn)
	meet(d, "bsuid:x", "phone:1")
	d.same("silenced", d.leave(l, slices.Concat(ofYounger, ofOlder, notice)...), []bool{true, true, false})
}

func silenceUntilItHasLeft(_ *testing.T, d *desk) {
	first := d.send(conv("a"), "1")
	d.wordGoes(conv("a"))
	l := d.lease("s", parley.Lease{})
	d.same("silenced", d.leave(l, first...), []bool{true})
	d.clock.Add(3 * time.Hour)
	if err := d.Prune(d.t.Context(), parley.HistoryFor); err != nil {
		d.t.Fatal(err)
	}
	d.same("what comes after", d.leave(d.lease("s", l), d.send(conv("a"), "2")...), []bool{false})
}

// reopenSilence: it is durable with its commit, and with what it is about.
func reopenSilence(_ *testing.T, d *desk) {
	before := d.send(conv("a"), "1", "2")
	notice := d.wordGoes(conv("a"), "a colleague")
	d.reopen()
	d.clock.Add(3 * time.Hour)
	if err := d.Prune(d.t.Context(), parley.HistoryFor); err != nil {
		d.t.Fatal(err)
	}
	l := d.lease("s", parley.Lease{})
	d.same("silenced", d.leave(l, before[0]), []bool{true})
	d.reopen()
	d.clock.Add(leaseTTL)
	d.same("silenced", d.leave(d.lease("s", parley.Lease{}), before[1], notice[0]), []bool{true, false})
}
