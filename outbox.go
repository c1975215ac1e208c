package parley

import "time"

// Outgoing is a message in the outbox, written by the commit that decided it.
type Outgoing struct {
	ID           ID
	Conversation Conversation
	// Ordinal numbers a conversation's outgoing messages 1, 2, 3 …: they are
	// handed to the provider in this order.
	Ordinal uint64
	At      time.Time // the turn's time
	Send    Send
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

// Claimed is an outgoing message that the store has marked as attempted in the
// lease's epoch, durably, so that it may now be handed to the provider.
type Claimed struct {
	Outgoing
	Attempts int // earlier attempts that the provider refused for a time
	// Doubtful says that an earlier attempt may have reached the provider: its
	// answer was lost, or the sender was stopped before it could note it.
	Doubtful bool
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
}

// OutcomeKind names the ways in which an attempt ends.
type OutcomeKind uint8

// The ways in which an attempt ends.
const (
	Sent    OutcomeKind = iota + 1 // accepted by the provider; leaves the outbox
	Retry                          // refused for a time: attempted again after Wait
	Refused                        // refused for good: becomes a dead letter
	Doubt                          // the answer was lost: attempted again after Wait, as doubtful
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
	Reason     string    // the provider's words for the error
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
