package embedded

import (
	"encoding/binary"
	"fmt"

	"github.com/parleychat/parley"
)

// The tables: the first byte of each key. Stored format; a letter is never used
// for anything else again.
//
// Names are framed by their lengths (an uvarint), so that any bytes may be in
// them and no key is the prefix of another one's. The brand leads each key, so
// that no row of one brand is met while reading another's; before it stands only
// the day, where a table is pruned by dropping whole days with one DeleteRange.
// The exceptions: the due list is by time (a timer belongs to a conversation,
// the list to the store), the quarantine and the registrations are by app (a
// brand is what they don't know yet), the suspects by the numbers of inbox rows, and
// the lists of accepted events by their bucket, by which they are dropped.
//
//	channel      = brand kind id
//	conversation = channel contact
//	seq, version, ordinal, due (ms) = 8 bytes, big-endian; day = 4 bytes
const (
	tableMeta       = '!' // name → reserved numbers, clock
	tablePosting    = 'A' // brand sort bucket → counts
	tableAlias      = 'a' // channel contact → canonical contact, or the next on the way to it; birth number
	tableBooks      = 'B' // nothing → since when all is counted, and what tableMeta says
	tableCall       = 'C' // conversation id → when it was decided and due, service, call
	tableCallMark   = 'e' // conversation id → how the attempts of that call stand
	tableConv       = 'c' // conversation → parley.Snapshot
	tableDelivery   = 'd' // channel provider-id → delivery
	tableDeliveries = 'D' // day channel provider-id → nothing: which deliveries to look at when the day is pruned. A delivery is found by its id alone, whatever its day, so it can't lead its key
	tableRegistered = 'g' // app channel → nothing
	tableHistory    = 'h' // day conversation version → JSON
	tableInbox      = 'i' // conversation seq → row
	tableAccepted   = 'J' // bucket seq → the events of an append: conversation, key, token
	tableSeen       = 'k' // day conversation event-key → time of effect
	tableLease      = 'l' // channel → epoch
	tableMark       = 'm' // conversation → how the attempts of its oldest unsent message stand
	tableOutbox     = 'o' // conversation ordinal id → message
	tableQuarantine = 'q' // app kind channel-id id → entry
	tableQuarIndex  = 'Q' // id → key in the table before
	tableReceipt    = 'r' // channel number → receipt
	tableSilence    = 'S' // conversation → up to which ordinal its unsent messages are silenced, and since when; only while there are any
	tableSuspect    = 's' // seq token → when it was noted
	tableTimer      = 't' // due id → conversation, name, generation
	tableWatermark  = 'w' // conversation → delivered and read watermarks
	tableDead       = 'x' // brand id → dead letter
)

// Names in tableMeta.
const (
	metaReserved = "reserved" // no number at or above this was ever handed out
	metaClock    = "clock"    // about the latest time handed out
)

const msPerDay = 24 * 60 * 60 * 1000

// day is the number of the day of a time in ms; days before 1970 are day 0.
func day(ms int64) uint32 {
	return uint32(max(ms, 0) / msPerDay)
}

func appendName[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendChannel(b []byte, ch parley.Channel) []byte {
	return appendName(appendName(appendName(b, ch.Brand), ch.Kind), ch.ID)
}

func appendConversation(b []byte, c parley.Conversation) []byte {
	return appendName(appendChannel(b, c.Channel), c.Contact)
}

func metaKey(name string) []byte { return append([]byte{tableMeta}, name...) }

func inboxKey(b, conv []byte, seq parley.Seq) []byte {
	b = append(append(b, tableInbox), conv...)
	return binary.BigEndian.AppendUint64(b, uint64(seq))
}

func outboxKey(b, conv []byte, ordinal uint64, id parley.ID) []byte {
	b = append(append(b, tableOutbox), conv...)
	b = binary.BigEndian.AppendUint64(b, ordinal)
	return append(b, id[:]...)
}

func historyKey(b []byte, d uint32, conv []byte, version uint64) []byte {
	b = binary.BigEndian.AppendUint32(append(b, tableHistory), d)
	b = append(b, conv...)
	return binary.BigEndian.AppendUint64(b, version)
}

func seenKey(b []byte, d uint32, conv []byte, k parley.EventKey) []byte {
	b = binary.BigEndian.AppendUint32(append(b, tableSeen), d)
	b = append(b, conv...)
	return append(b, k[:]...)
}

func timerKey(b []byte, due int64, id parley.ID) []byte {
	b = binary.BigEndian.AppendUint64(append(b, tableTimer), uint64(max(due, 0)))
	return append(b, id[:]...)
}

func suspectKey(b []byte, r parley.Row) []byte {
	b = binary.BigEndian.AppendUint64(append(b, tableSuspect), uint64(r.Seq))
	return binary.BigEndian.AppendUint64(b, uint64(r.Token))
}

func receiptKey(b, channel []byte, n uint64) []byte {
	b = append(append(b, tableReceipt), channel...)
	return binary.BigEndian.AppendUint64(b, n)
}

func deliveryKey(b, channel []byte, providerID string) []byte {
	return appendName(append(append(b, tableDelivery), channel...), providerID)
}

func deliveryDayKey(b []byte, d uint32, channel []byte, providerID string) []byte {
	b = binary.BigEndian.AppendUint32(append(b, tableDeliveries), d)
	return appendName(append(b, channel...), providerID)
}

func quarantineKey(b []byte, q *parley.Quarantined) []byte {
	b = appendName(append(b, tableQuarantine), q.App)
	b = appendName(appendName(b, q.Kind), q.ChannelID)
	return append(b, q.ID[:]...)
}

func deadKey(b []byte, brand parley.Brand, id parley.ID) []byte {
	return append(appendName(append(b, tableDead), brand), id[:]...)
}

// after is the smallest key behind all keys that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// readKey begins to take a key apart that this package has written.
func readKey(table byte, key []byte) (*reader, error) {
	if len(key) == 0 || key[0] != table {
		return nil, fmt.Errorf("key %x: not of table %c", key, table)
	}
	return &reader{b: key[1:]}, nil
}

func (r *reader) channel() parley.Channel {
	return parley.Channel{
		Brand: parley.Brand(r.string()), Kind: parley.ChannelKind(r.string()), ID: r.string(),
	}
}

func (r *reader) conversation() parley.Conversation {
	return parley.Conversation{Channel: r.channel(), Contact: parley.Contact(r.string())}
}
