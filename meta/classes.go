package meta

import (
	"time"

	"github.com/parleychat/parley"
)

// Class says what to do about a send that failed.
type Class uint8

// The classes. Which scope a wait or a stop applies to is a Scope.
const (
	// ClassUnknown: the answer was lost, the message may have been sent. There is
	// no idempotency key on any Graph send: look for it in echoes and statuses.
	ClassUnknown Class = iota
	// ClassRetry: refused for a time, or never sent. Try again with back-off.
	ClassRetry
	// ClassWait: a rate limit. Calling on while throttled lengthens the block.
	ClassWait
	// ClassTenant: the brand must act first: token, permission, payment.
	ClassTenant
	// ClassUser: this person can't be reached, or doesn't want to be.
	ClassUser
	// ClassPermanent: the request itself is wrong and will always be refused.
	ClassPermanent
	// ClassSent: reported as an error, but the messages were sent.
	ClassSent
)

func (c Class) String() string {
	switch c {
	case ClassUnknown:
		return "unknown"
	case ClassRetry:
		return "retry"
	case ClassWait:
		return "wait"
	case ClassTenant:
		return "tenant"
	case ClassUser:
		return "user"
	case ClassPermanent:
		return "permanent"
	case ClassSent:
		return "sent"
	}
	return "class?"
}

// Scope says how far an error reaches.
type Scope uint8

// The scopes, from narrow to wide.
const (
	ScopeMessage Scope = iota // this message only
	ScopeContact              // all messages to this contact
	ScopeChannel              // all messages of this channel
	ScopeApp                  // all channels of this app or account
)

func (s Scope) String() string {
	switch s {
	case ScopeMessage:
		return "message"
	case ScopeContact:
		return "contact"
	case ScopeChannel:
		return "channel"
	case ScopeApp:
		return "app"
	}
	return "scope?"
}

// Treatment is what is known of an error code.
type Treatment struct {
	Class Class
	Scope Scope
	// Wait is the least time before another attempt, 0 if only back-off tells.
	Wait time.Duration
	// Tries is how often it is worth trying in all; 0 leaves it to the caller.
	Tries int
	About string // what the code means, in a few words
}

// How long to wait where the documents say so, and how often "a few" is.
const (
	fewTries         = 4
	twice            = 2
	numberWait       = 2 * time.Second  // 130429: so many in a second
	pairWait         = 6 * time.Second  // 131056: one message in 6 s to one user
	marketingWait    = 24 * time.Hour   // 131049
	maintenanceWait  = 15 * time.Second // 131057: at most a minute
	templateWait     = 10 * time.Minute // 134101
	registrationWait = time.Hour        // 133016, 132069: ten in an hour
	appWait          = time.Minute      // 4, 17, 32, 613, 80007; the usage header knows better
	pageWait         = 15 * time.Second // Messenger's limits are by the second and by the thread
)

// anySubcode stands for every subcode that has no row of its own.
const anySubcode = 0

// codeRow treats the codes from first to last, of one subcode or of any.
type codeRow struct {
	first, last, subcode int
	Treatment
}

// Treat is how to treat a Graph error of a channel's kind, and whether the code
// is a documented one. Decide on code and subcode, never on the text: two of
// Meta's pages give 1545041 different meanings.
func Treat(kind parley.ChannelKind, code, subcode int) (Treatment, bool) {
	rows := messengerCodes()
	if kind == parley.WhatsApp || kind == parley.WhatsAppAccount {
		rows = whatsAppCodes()
	}
	found := -1
	for i := range rows {
		r := &rows[i]
		if code < r.first || code > r.last {
			continue
		}
		if r.subcode == subcode {
			return r.Treatment, true
		}
		if r.subcode == anySubcode {
			found = i
		}
	}
	if found < 0 {
		return Treatment{}, false
	}
	return rows[found].Treatment, true
}

func one(code int, t Treatment) codeRow { return codeRow{first: code, last: code, Treatment: t} }

func sub(code, subcode int, t Treatment) codeRow {
	return codeRow{first: code, last: code, subcode: subcode, Treatment: t}
}

func retry(tries int, about string) Treatment {
	return Treatment{Class: ClassRetry, Tries: tries, About: about}
}

func wait(s Scope, d time.Duration, about string) Treatment {
	return Treatment{Class: ClassWait, Scope: s, Wait: d, About: about}
}

func tenant(s Scope, about string) Treatment {
	return Treatment{Class: ClassTenant, Scope: s, About: about}
}

func user(about string) Treatment {
	return Treatment{Class: ClassUser, Scope: ScopeContact, About: about}
}

func permanent(about string) Treatment { return Treatment{Class: ClassPermanent, About: about} }
