package node

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
)

// reading is which version of each bot's state a program reads, by the bot's key. It
// is told in gossip, where room is short: so bots go by keys, and those of the first
// version aren't told.
type reading map[uint32]int

// maxTold is how many bots of later versions than the first a program may have: with
// 7 characters each they leave enough of the 512 bytes that a member may tell.
const maxTold = 32

// botKey is a bot's name in four bytes. It is told to programs of other versions.
func botKey(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// readingOf is what a program of these bots reads.
func readingOf(bots []parley.Bot) (reading, error) {
	r, names := reading{}, map[uint32]string{}
	for i := range bots {
		b := &bots[i]
		if b.Version <= 1 {
			continue
		}
		k := botKey(b.Name)
		if other, ok := names[k]; ok {
			return nil, fmt.Errorf("bots %s and %s have the same key in gossip: another name is needed", other, b.Name)
		}
		if b.Version > maxVersion {
			return nil, fmt.Errorf("bot %s: version %d: at most %d", b.Name, b.Version, maxVersion)
		}
		names[k], r[k] = b.Name, b.Version
	}
	if len(r) > maxTold {
		return nil, fmt.Errorf("%d bots with a version above 1: at most %d (what a member tells of itself has no room for more)", len(r), maxTold)
	}
	return r, nil
}

// maxVersion keeps a told version within two bytes.
const maxVersion = 1<<14 - 1

// String is the told form: for each bot its key and its version, in the order of keys.
func (r reading) String() string {
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(r)) {
		b = binary.AppendUvarint(binary.BigEndian.AppendUint32(b, k), uint64(r[k]))
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// heardReading is the inverse. What can't be read says nothing: then a member is
// taken for one that reads the first version of everything.
func heardReading(told string) reading {
	b, err := base64.RawStdEncoding.DecodeString(told)
	if err != nil {
		return nil
	}
	r := reading{}
	for len(b) > 0 {
		if len(b) < 4 {
			return nil
		}
		k := binary.BigEndian.Uint32(b)
		v, n := binary.Uvarint(b[4:])
		if n <= 0 || v > maxVersion {
			return nil
		}
		r[k] = int(v)
		b = b[4+n:]
	}
	return r
}

// version is that of a bot: the first unless something else was told.
func (r reading) version(bot string) int { return max(r[botKey(bot)], 1) }

// barrier knows which version of each bot's state all those read who may run
// conversations: so nobody finds something that it can't go on with (G10).
//
// Who has left counts for a while, unless it is back: most who leave are about to be
// started again, as what they were.
type barrier struct {
	bots   []parley.Bot
	view   func() *cluster.View
	now    func() time.Time
	mu     sync.Mutex
	seen   *cluster.View // the newest
	left   []leaver
	oldest map[string]int // by bot
	until  time.Time      // when somebody in left stops counting; zero: nobody is
}

// leaver is somebody who was there.
type leaver struct {
	member cluster.Member
	at     time.Time
}

// leftFor is how long somebody who has left counts: longer than a restart takes.
const leftFor = time.Minute

// version is the newest version of a bot that everybody reads.
func (b *barrier) version(bot string) int {
	view, now := b.view(), b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if view != b.seen || !b.until.IsZero() && !now.Before(b.until) {
		b.look(view, now)
	}
	return b.oldest[bot]
}

// look takes a view for the newest, and counts.
func (b *barrier) look(view *cluster.View, now time.Time) {
	here := view.Members()
	if b.seen != nil {
		for _, m := range b.seen.Members() {
			b.left = append(b.left, leaver{m, now})
		}
	}
	b.seen, b.until = view, time.Time{}
	b.left = slices.DeleteFunc(b.left, func(l leaver) bool {
		return now.Sub(l.at) >= leftFor || !l.member.Does(cluster.Actors) || slices.ContainsFunc(here, l.isBack)
	})
	all := make([]reading, 0, len(here)+len(b.left))
	for i := range here {
		if here[i].Does(cluster.Actors) {
			all = append(all, heardReading(here[i].Reads))
		}
	}
	for _, l := range b.left {
		all = append(all, heardReading(l.member.Reads))
		if ends := l.at.Add(leftFor); b.until.IsZero() || ends.Before(b.until) {
			b.until = ends
		}
	}
	b.oldest = map[string]int{}
	for i := range b.bots {
		b.oldest[b.bots[i].Name] = oldestOf(&b.bots[i], all)
	}
}

// isBack reports whether m is the leaver, in another run or the same.
func (l leaver) isBack(m cluster.Member) bool {
	return m.Addr == l.member.Addr || holderOf(m.Name) == holderOf(l.member.Name)
}

func oldestOf(b *parley.Bot, all []reading) int {
	oldest := max(b.Version, 1)
	for _, r := range all {
		oldest = min(oldest, r.version(b.Name))
	}
	return oldest
}
