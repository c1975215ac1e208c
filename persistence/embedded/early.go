package embedded

import (
	"hash/maphash"

	"github.com/parleychat/parley"
)

// early remembers which deliveries receipts have told of before their message
// was settled, so that Settle needs to look a delivery up only if there may be
// one. It knows all of them since a certain time; a message that was claimed
// before that is looked up. (What was claimed before the store was opened can't
// be settled any more.)
type early struct {
	seed       maphash.Seed
	young, old map[uint64]struct{}
	youngSince int64
	oldSince   int64 // everything since then is known
}

// earlyMax bounds a generation's entries, of 16 bytes each.
const earlyMax = 1 << 15

func newEarly(now int64) early {
	return early{seed: maphash.MakeSeed(), young: map[uint64]struct{}{}, youngSince: now, oldSince: now}
}

type earlyKey struct {
	channel    parley.Channel
	providerID string
}

func (e *early) hash(ch parley.Channel, providerID string) uint64 {
	return maphash.Comparable(e.seed, earlyKey{ch, providerID})
}

func (e *early) add(ch parley.Channel, providerID string, now int64) {
	if len(e.young) >= earlyMax {
		e.old, e.oldSince = e.young, e.youngSince
		e.young, e.youngSince = map[uint64]struct{}{}, now
	}
	e.young[e.hash(ch, providerID)] = struct{}{}
}

// mayKnow reports whether a receipt may have come for a message that was
// claimed at that time.
func (e *early) mayKnow(ch parley.Channel, providerID string, claimed int64) bool {
	if claimed < e.oldSince {
		return true
	}
	h := e.hash(ch, providerID)
	_, young := e.young[h]
	_, old := e.old[h]
	return young || old
}
