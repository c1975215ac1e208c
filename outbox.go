package parley

import (
	"encoding/json"
	"fmt"
	"time"
)

// Outgoing is a message in the outbox, written by the commit that decided it.
type Outgoing struct {
	ID           ID
	Conversation Conversation
	// Ordinal numbers a conversation's outgoing messages 1, 2, 3 …: they are
	// handed to the provider in this order.
	Ordinal uint64
	At      time.Time // the turn's time
	Send    Send
	Heard   Heard // as the turn knew it
}

// content is the stored form of what an Outgoing says.
type content struct {
	storedSend
	Heard   int64 `json:"heard_ms,omitempty"`
	Entry   int64 `json:"entry_ms,omitempty"`
	Stopped int64 `json:"stopped_ms,omitempty"`
}

// EncodeContent is the stored form of Send and Heard: Send's, with what is known
// beside it. Programs that know less of it read the rest.
func (o *Outgoing) EncodeContent() ([]byte, error) {
	b, err := json.Marshal(content{stored(&o.Send), toMS(o.Heard.At), toMS(o.Heard.Entry), toMS(o.Heard.Stopped)})
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return b, nil
}

// DecodeContent reads what EncodeContent wrote; what is of a newer generation is
// ErrFormat.
func (o *Outgoing) DecodeContent(b []byte) error {
	var c content
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	send, err := c.send()
	if err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	o.Send, o.Heard = send, Heard{fromMS(c.Heard), fromMS(c.Entry), fromMS(c.Stopped)}
	return nil
}

// Lease is the right to send for a channel: at most one sender holds the
// channel's current epoch. Expiry is judged by the store's clock only; the
// holder stops at half of TTL by its own.
type Lease struct {
	Channel Channel
	Holder  string
	Epoch   uint64
	TTL     time.Duration
}

// Places are how many messages may be claimed.
type Places struct {
	All  int
	Bulk int // of All, those that are for bulk first
}

// Claimed is an outgoing message that the store has marked as attempted in the
// lease's epoch, durably, so that it may now be handed to the provider.
type Claimed struct {
	Outgoing
	Attempts int // earlier attempts that the provider refused for a time
	// Doubtful says that an earlier attempt may have reached the provider: its
	// answer was lost, or the sender was stopped before it could note it.
	Doubtful bool
	// Silenced says that somebody else has been given the word since the message was
	// decided (Commit.Silence): unless it isn't the bot's (Send.OfBot), it isn't to be
	// handed over.
	Silenced bool
}

// Outcome is how an attempt ended.
type Outcome struct {
	ID   ID
	Kind OutcomeKind
	// ProviderID is Meta's id of the message, if Kind is Sent.
	ProviderID string
	// Wait is how long the message, and with it the rest of its conversation,
	// stays before the next attempt, if Kind is Retry or Doubt.
	Wait time.Duration
	// Uncounted, of a Retry, leaves Attempts as it is: the message was not to
	// blame, since it was never handed over or its whole channel was refused.
	Uncounted bool
	// Cause is the provider's refusal or the transport's error; no message text.
	Cause string
	Code  int // Meta's error code, 0 if none
	// Why says what a message was Returned for.
	Why Failure
}

// Failed is what the conversation of m hears if it is Returned, and the key of
// that event.
func (o *Outcome) Failed(m *Outgoing) (SendFailed, EventKey) {
	return SendFailed{ID: m.ID, Code: o.Code, Reason: o.Cause, Why: o.Why},
		NewEventKey("send_failed", m.Conversation.Channel.String(), m.ID.String(), "returned")
}

// OutcomeKind names the ways in which an attempt ends.
type OutcomeKind uint8

// The ways in which an attempt ends.
const (
	Sent     OutcomeKind = iota + 1 // accepted by the provider; leaves the outbox
	Retry                           // refused for a time: attempted again after Wait
	Refused                         // refused for good: becomes a dead letter
	Doubt                           // the answer was lost: attempted again after Wait, as doubtful
	Returned                        // refused for good, for what concerns the bot: becomes SendFailed in the inbox
)

// Receipt is what the provider reports about a message that was sent: a status
// or an echo. Receipts cost no turn; the channel's sender folds them in batches.
type Receipt struct {
	Channel    Channel
	Status     Status
	ProviderID string    // Meta's id of the message; empty if only Watermark tells
	Row        ID        // the Outgoing's id as the provider told it back; zero if it didn't
	Contact    Contact   // the recipient, where told
	Watermark  time.Time // Messenger: everything sent up to here has Status
	Time       time.Time // the provider's
	Code       int       // error code, if Status is StatusFailed
	// Reason is the provider's words for the error; of an echo that may be somebody
	// else's it is what that says, see Say.
	Reason string
}

// Status is what is known of a sent message. Unknown values are kept as data.
type Status string

// The statuses. They form a lattice: see [Status.Join].
const (
	StatusEchoed    Status = "echoed" // the provider showed it in the thread: it took it
	StatusSent      Status = "sent"
	StatusDelivered Status = "delivered"
	StatusRead      Status = "read"
	StatusPlayed    Status = "played"
	StatusFailed    Status = "failed"
	StatusDeleted   Status = "deleted"
)

// rank orders the statuses; 0 is any value that isn't known here.
func (s Status) rank() int {
	switch s {
	case StatusEchoed:
		return 1
	case StatusSent:
		return 2
	case StatusDelivered:
		return 3
	case StatusRead:
		return 4
	case StatusPlayed:
		return 5
	case StatusDeleted:
		return 6
	case StatusFailed:
		return 7
	}
	return 0
}

// Join is what is known after both reports, in whatever order and however often
// they came: echoed < sent < delivered < read < played < deleted < failed. The
// last two are final. The provider reports one of them for a message; should it
// report both, the failure stays, since somebody may have to act on it. A value
// that isn't known is kept until one that is known comes; of two that aren't,
// the greater string stays, so that the order of reports never matters.
func (s Status) Join(t Status) Status {
	if a, b := s.rank(), t.rank(); a > b || a == b && s > t {
		return s
	}
	return t
}

// Told reports whether the provider has said what became of a message: that it
// arrived, or that it won't.
func (s Status) Told() bool { return s.rank() >= StatusDelivered.rank() }

// Folded is what came of folding receipts.
type Folded struct {
	Receipts int       // that were folded
	Held     int       // that were looked at and stay: echoes of which it isn't known yet whose they are
	Proven   int       // messages that left the outbox, as the provider has shown that it has them
	Rows     []Pending // that tell conversations of failures, and of what others said
	Told     []ID      // own messages of which the provider has now told what became (Status.Told)
}

// Delivery is what is known of a message that was handed over.
type Delivery struct {
	ID           ID // of the Outgoing; zero if the message isn't one of ours
	Conversation Conversation
	ProviderID   string
	Status       Status
	At           time.Time // of the last change, by the store's clock
	Code         int
	Reason       string
}

// DeadLetter is an event that could not be handled or a message that could not
// be sent, kept with its cause for a person to look at.
type DeadLetter struct {
	ID           ID
	Conversation Conversation
	At           time.Time
	Cause        string
	Seq          Seq    // of the event; 0 for a message
	Data         []byte // the event as EncodeInput wrote it, or the effect as EncodeEffect did
}
