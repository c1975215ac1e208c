package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors/wire"
)

// noticeOver is the size from which an event isn't sent along with its row: the
// owner loads it, which is one way through the network too.
const noticeOver = 64 << 10

// routed is a row on its way, and how often it was passed on.
type routed struct {
	parley.Pending
	passes uint32
}

// rowsToWire encodes rows. Of rows in a sequence that have one channel only the
// first names it. What is too large becomes a wake.
func rowsToWire(rows []routed) (out []*wire.Row, wakes []*wire.Wake, err error) {
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
			wakes = append(wakes, wakeToWire(wake{id: r.Conversation, passes: r.passes}))
			continue
		}
		w := &wire.Row{
			Contact: []byte(r.Conversation.Contact), Seq: uint64(r.Seq), Token: uint64(r.Token), Key: r.Key[:],
			At: toMillis(r.Time), Received: toMillis(r.Received), Late: r.Late, Data: data, Passes: r.passes,
		}
		if r.Conversation.Channel != last {
			last = r.Conversation.Channel
			w.Channel = channelToWire(last)
		}
		out = append(out, w)
	}
	return out, wakes, nil
}

var errParcel = errors.New("a parcel that can't be read")

// rowsFromWire decodes rows up to the first that makes no sense. Those whose input
// this program doesn't know are left out: they may be of a later one's. The error is
// of the last of them.
func rowsFromWire(in []*wire.Row) (rows []routed, err error) {
	rows = make([]routed, 0, len(in))
	var ch parley.Channel
	for _, w := range in {
		if w.GetChannel() != nil {
			ch = channelFromWire(w.GetChannel())
		}
		r := routed{passes: w.GetPasses()}
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

// shardSet is a set of shards.
type shardSet [parley.Shards / 8]byte

func (s *shardSet) add(shard uint16)      { s[shard/8] |= 1 << (shard % 8) }
func (s *shardSet) remove(shard uint16)   { s[shard/8] &^= 1 << (shard % 8) }
func (s *shardSet) has(shard uint16) bool { return s[shard/8]&(1<<(shard%8)) != 0 }
func (s *shardSet) empty() bool           { return *s == shardSet{} }

func (s *shardSet) each(do func(uint16)) {
	for i, b := range s {
		for bit := range uint16(8) {
			if b&(1<<bit) != 0 {
				do(uint16(i)*8 + bit)
			}
		}
	}
}

func (s *shardSet) len() (n int) {
	s.each(func(uint16) { n++ })
	return n
}

// setFromWire reads a set; what is missing of a short one isn't in it.
func setFromWire(b []byte) (s shardSet) {
	copy(s[:], b)
	return s
}
