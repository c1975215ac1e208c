package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runYield(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"TakenAtOnceByAnother":       yieldTakenAtOnce,
		"RenewedKeepsTheEpoch":       yieldRenewedKeepsTheEpoch,
		"NothingBegunNotesWhatEnded": yieldNothingBegun,
		"WhatWasClaimedIsDoubtful":   yieldClaimsAreDoubtful,
		"FencedOnceAnotherTookIt":    yieldFenced,
		"AllOrSomeChannels":          yieldAllOrSome,
		"OthersKeepTheirs":           yieldOthersKeepTheirs,
		"ByManyAtOnce":               yieldByMany,
	})
}

func (d *desk) yield(holder string, channels ...parley.Channel) {
	d.t.Helper()
	for range 2 { // again it does nothing more
		if err := d.Yield(d.t.Context(), holder, channels); err != nil {
			d.t.Fatalf("yield: %v", err)
		}
	}
}

func yieldTakenAtOnce(t *testing.T, d *desk) {
	first := d.lease("s1", parley.Lease{})
	d.yield("s1")
	second := d.lease("s2", parley.Lease{})
	if second.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	_, err := tryLease(d, "s1", first)
	d.fenced("renewal after a takeover", err)
	d.yield("s1") // it has none any more
	d.same("renewed", d.lease("s2", second), second)
}

// yieldRenewedKeepsTheEpoch: a holder that was taken for lost and isn't goes on.
func yieldRenewedKeepsTheEpoch(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x", "y")
	first := d.lease("s1", parley.Lease{})
	d.claims(first, out[0])
	d.yield("s1")
	d.same("renewed", d.lease("s1", first), first)
	_, err := tryLease(d, "s2", parley.Lease{})
	d.fenced("another after the renewal", err)
	d.settle(first, sent(out[0]))
	if got := d.claims(first, out[1]); got[0].Doubtful {
		t.Error("a message is doubtful though nobody took the lease")
	}
	d.yield("s1")
	if again := d.lease("s1", parley.Lease{}); again.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d for a holder that was started anew", again.Epoch, first.Epoch)
	}
}

// yieldNothingBegun: as with a lease that has expired.
func yieldNothingBegun(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x", "y")
	l := d.lease("s1", parley.Lease{})
	d.claims(l, out[0])
	d.yield("s1")
	_, _, err := d.Claim(t.Context(), l, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim", err)
	_, err = d.Recall(t.Context(), l, nil, doubtfulWait)
	d.fenced("recall", err)
	d.settle(l, sent(out[0]))
	d.same("unsent", d.backlog().Unsent, 1)
}

func yieldClaimsAreDoubtful(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x")
	d.claims(d.lease("s1", parley.Lease{}), out[0])
	d.yield("s1", page())
	l := d.lease("s2", parley.Lease{})
	if claimed, wait := d.claim(l, 10); len(claimed) > 0 || wait != doubtfulWait {
		t.Fatalf("claimed %v, wait %s; want nothing and %s", claimed, wait, doubtfulWait)
	}
	d.clock.Add(doubtfulWait)
	if got := d.claims(d.lease("s2", l), out[0]); !got[0].Doubtful {
		t.Error("it isn't doubtful")
	}
}

func yieldFenced(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x")
	first := d.lease("s1", parley.Lease{})
	d.claims(first, out[0])
	d.yield("s1")
	second := d.lease("s2", parley.Lease{})
	_, _, err := d.Claim(t.Context(), first, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim", err)
	d.fenced("settle", d.Settle(t.Context(), first, []parley.Outcome{sent(out[0])}))
	_, err = d.Fold(t.Context(), first, 10)
	d.fenced("fold", err)
	d.same("unsent", d.backlog().Unsent, 1)
	d.claims(second) // it waits
}

func yieldPages(n int) (channels []parley.Channel) {
	for i := range n {
		ch := page()
		ch.ID = fmt.Sprint("yield", i)
		channels = append(channels, ch)
	}
	return channels
}

// free tells which of channels may be taken, and takes those.
func (d *desk) free(holder string, channels []parley.Channel) (free []parley.Channel) {
	d.t.Helper()
	for _, ch := range channels {
		_, err := d.Lease(d.t.Context(), ch, holder, leaseTTL, parley.Lease{})
		switch {
		case err == nil:
			free = append(free, ch)
		case !errors.Is(err, parley.ErrFenced):
			d.t.Fatal(err)
		}
	}
	return free
}

func yieldAllOrSome(_ *testing.T, d *desk) {
	channels := yieldPages(6)
	d.free("s1", channels)
	if err := d.Yield(d.t.Context(), "s1", []parley.Channel{}); err != nil {
		d.t.Fatal(err)
	}
	d.same("free when none was named", d.free("s2", channels), []parley.Channel(nil))
	d.yield("s1", channels[1], channels[4], number()) // the last was never anybody's
	d.same("free when two were named", d.free("s2", channels), []parley.Channel{channels[1], channels[4]})
	d.yield("s1")
	d.same("free when all were given back", d.free("s3", channels), []parley.Channel{channels[0], channels[2], channels[3], channels[5]})
}

func yieldOthersKeepTheirs(_ *testing.T, d *desk) {
	channels := yieldPages(4)
	d.free("s1", channels[:2])
	d.free("s2", channels[2:])
	d.yield("s1", channels...)
	d.yield("nobody")
	d.same("free", d.free("s3", channels), channels[:2])
	kept := d.leaseOf(channels[2], "s2", parley.Lease{})
	d.yield("s3")
	d.same("renewed", d.leaseOf(channels[2], "s2", kept), kept)
}

// yieldByMany: all survivors give back the leases of one that was lost, in
// different orders, while the senders of the same store work and renew.
func yieldByMany(_ *testing.T, d *desk) {
	channels := yieldPages(workers)
	d.together(func(ctx context.Context, w int, own *desk) error {
		l := parley.Lease{}
		for round := range 25 {
			got, err := own.Lease(ctx, channels[w], fmt.Sprint("s", w), leaseTTL, l)
			if err != nil {
				return fmt.Errorf("lease, round %d: %w", round, err)
			}
			if l.Epoch != 0 && got.Epoch != l.Epoch {
				return fmt.Errorf("epoch %d after %d, though nobody took it", got.Epoch, l.Epoch)
			}
			l = got
			if err := own.Settle(ctx, l, nil); err != nil {
				return fmt.Errorf("settle, round %d: %w", round, err)
			}
			if err := own.yieldOfTwo(ctx, w, round, channels); err != nil {
				return fmt.Errorf("yield, round %d: %w", round, err)
			}
		}
		return nil
	})
	d.same("free at the end", len(d.free("successor", channels)), workers)
}

// yieldOfTwo gives back the leases of a worker's neighbour and its own, out of all
// channels in an order of its own.
func (d *desk) yieldOfTwo(ctx context.Context, w, round int, channels []parley.Channel) error {
	var named []parley.Channel
	for i := range channels {
		named = append(named, channels[(i*(2*w+1)+round)%workers])
	}
	return errors.Join(d.Yield(ctx, fmt.Sprint("s", (w+1)%workers), named), d.Yield(ctx, fmt.Sprint("s", w), named))
}
