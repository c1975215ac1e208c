package actors

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors/wire"
)

// noticeOver is the size from which an event isn't sent along with its row: the
// owner loads it, which is one way through the network too.
const noticeOver = 64 << 10

// Routed is a row on its way between nodes.
type Routed struct {
	parley.Pending

	Passes uint32 // by nodes that don't run its shard
}

// RowsToWire encodes rows. Of rows in a sequence that have one channel only the
// first names it. What is too large becomes a wake.
func RowsToWire(rows []Routed) (out []*wire.Row, wakes []*wire.Wake, err error) {
	var last parley.Channel
	for i := range rows {
		r := &rows[i]
		data := r.Data
		if data == nil {
			if data, err = parley.EncodeInput(r.Input); err != nil {
				return nil, nil, fmt.Errorf("encode row %d: %w", r.Seq, err)
			}
		}
		if len(data) > noticeOver {
			wakes = append(wakes, wakeToWire(wake{id: r.Conversation, passes: r.Passes}))
			continue
		}
		w := &wire.Row{
			Contact: []byte(r.Conversation.Contact), Seq: uint64(r.Seq), Token: uint64(r.Token), Key: r.Key[:],
			At: toMillis(r.Time), Received: toMillis(r.Received), Late: r.Late, Data: data, Passes: r.Passes,
		}
		if r.Conversation.Channel != last {
			last = r.Conversation.Channel
			w.Channel = channelToWire(last)
		}
		out = append(out, w)
	}
	return out, wakes, nil
}

// providerIDMost is how long an id of the provider's is at most; Meta's have some 200 bytes.
const providerIDMost = 1 << 10

var errParcel = errors.New("a parcel that can't be read")

// RowsFromWire decodes rows up to the first that makes no sense. Those whose input
// this program doesn't know are left out: they may be of a later one's. The error is
// of the last of them.
func RowsFromWire(in []*wire.Row) (rows []Routed, err error) {
	rows = make([]Routed, 0, len(in))
	var ch parley.Channel
	for _, w := range in {
		if w.GetChannel() != nil {
			ch = channelFromWire(w.GetChannel())
		}
		r := Routed{Passes: w.GetPasses()}
		r.Row = parley.Row{Seq: parley.Seq(w.GetSeq()), Token: parley.Token(w.GetToken())}
		r.Conversation = parley.Conversation{Channel: ch, Contact: parley.Contact(w.GetContact())}
		r.Time, r.Received, r.Late, r.Data = fromMillis(w.GetAt()), fromMillis(w.GetReceived()), w.GetLate(), w.GetData()
		if len(w.GetKey()) != len(r.Key) || r.Conversation.Contact == "" || ch.Validate() != nil {
			return rows, errParcel
		}
		copy(r.Key[:], w.GetKey())
		input, unknown := parley.DecodeInput(r.Data)
		if unknown != nil {
			err = fmt.Errorf("row %d: %w", r.Seq, unknown)
			continue
		}
		r.Input = input
		rows = append(rows, r)
	}
	return rows, err
}

func wakeToWire(w wake) *wire.Wake {
	return &wire.Wake{Channel: channelToWire(w.id.Channel), Contact: []byte(w.id.Contact), Seek: w.seek, Passes: w.passes}
}

func wakeFromWire(w *wire.Wake) (wake, error) {
	id := parley.Conversation{Channel: channelFromWire(w.GetChannel()), Contact: parley.Contact(w.GetContact())}
	if id.Contact == "" || id.Channel.Validate() != nil {
		return wake{}, errParcel
	}
	return wake{id: id, seek: w.GetSeek(), passes: w.GetPasses()}, nil
}

func channelToWire(ch parley.Channel) *wire.Channel {
	return &wire.Channel{Brand: []byte(ch.Brand), Kind: []byte(ch.Kind), Id: []byte(ch.ID)}
}

func channelFromWire(w *wire.Channel) parley.Channel {
	return parley.Channel{Brand: parley.Brand(w.GetBrand()), Kind: parley.ChannelKind(w.GetKind()), ID: string(w.GetId())}
}

func sentToWire(r *parley.Receipt) *wire.Sent {
	return &wire.Sent{Channel: channelToWire(r.Channel), Id: r.Row[:], ProviderId: []byte(r.ProviderID)}
}

func sentFromWire(w *wire.Sent) (r parley.Receipt, err error) {
	r = parley.Receipt{Channel: channelFromWire(w.GetChannel()), Status: parley.StatusSent, ProviderID: string(w.GetProviderId())}
	// No store takes what isn't text, nor what else would share a transaction with it.
	text := utf8.ValidString(r.ProviderID) && !strings.ContainsRune(r.ProviderID, 0)
	if n := len(r.ProviderID); !text || n == 0 || n > providerIDMost || copy(r.Row[:], w.GetId()) != len(w.GetId()) || len(w.GetId()) != len(r.Row) || r.Channel.Validate() != nil {
		return parley.Receipt{}, errParcel
	}
	return r, nil
}

// toMillis and fromMillis keep the zero time.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// ShardSet is a set of shards.
type ShardSet [parley.Shards / 8]byte

// Add puts a shard into the set.
func (s *ShardSet) Add(shard uint16) { s[shard/8] |= 1 << (shard % 8) }

// Remove takes one out.
func (s *ShardSet) Remove(shard uint16) { s[shard/8] &^= 1 << (shard % 8) }

// Has reports whether a shard is in it.
func (s *ShardSet) Has(shard uint16) bool { return s[shard/8]&(1<<(shard%8)) != 0 }

// Empty reports whether none is.
func (s *ShardSet) Empty() bool { return *s == ShardSet{} }

// Each goes through the set, in order.
func (s *ShardSet) Each(do func(uint16)) {
	for i, b := range s {
		for ; b != 0; b &= b - 1 {
			do(uint16(i)*8 + uint16(bits.TrailingZeros8(b)))
		}
	}
}

// Len is how many are in it.
func (s *ShardSet) Len() (n int) {
	s.Each(func(uint16) { n++ })
	return n
}

// setFromWire reads a set; what is missing of a short one isn't in it.
func setFromWire(b []byte) (s ShardSet) {
	copy(s[:], b)
	return s
}
