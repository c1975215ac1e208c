package parley

import "time"

// An echo of Instagram names no app and gives nothing back that a send took with
// it: whether it shows a message of ours is told by its id alone, once the send's
// own answer has brought that. So the receipt of such an echo keeps what was said
// (Say), and whoever folds it finds out whose it is (Whose), next to the messages
// that are on their way at that moment. One that is somebody else's becomes an
// Echo in the inbox.

const (
	// EchoWait is how long such an echo waits, at most, for the answer to a send
	// that it may be the echo of: longer than a send takes, or its time-out.
	EchoWait = time.Minute
	// echoSkew is by how much the provider's clock may be behind the store's when
	// it is asked whether an echo is older than a message.
	echoSkew = 5 * time.Second
)

// Say keeps in the receipt of an echo what it shows, as it may be somebody else's.
// It takes Reason, which a receipt of that status has no other use for, so that
// programs and stores that know nothing of it keep it too, and take the echo for
// one of ours.
func (r *Receipt) Say(e Echo) error {
	data, err := EncodeInput(e)
	if err != nil {
		return err
	}
	r.Reason = string(data)
	return nil
}

// Said is what Say kept. False: it is not an echo, or one that is known to be of
// ours.
func (r *Receipt) Said() (Echo, bool) {
	if r.Status != StatusEchoed || r.Reason == "" || r.Contact == "" || r.ProviderID == "" || !r.Row.IsZero() {
		return Echo{}, false
	}
	in, err := DecodeInput([]byte(r.Reason))
	if err != nil {
		return Echo{}, false
	}
	e, ok := in.(Echo)
	return e, ok
}

// EchoKey is the key of the event that such an echo becomes, and of each repeat of it.
func (r *Receipt) EchoKey() EventKey {
	return NewEventKey(string(r.Channel.Kind), r.Channel.ID, Echo{}.Kind(), r.ProviderID, "")
}

// Attempt is a message of the outbox that was attempted and of which it isn't known
// how that ended.
type Attempt struct {
	Outgoing
	Claimed  time.Time // when it was attempted last
	Open     bool      // its sender is at it, and will tell how it ended
	Doubtful bool      // the answer to an attempt was lost
}

// EchoOf says whose message an echo shows.
type EchoOf uint8

// Whose message an echo may show.
const (
	EchoOfOther EchoOf = iota // somebody else's: a person spoke, or another program
	EchoOfOurs
	EchoProof     // ours, and it proves that the provider has that attempt
	EchoUndecided // perhaps the message of an attempt: to be asked again
)

// Whose tells whose message an echo shows that isn't known by its id. attempts are
// those of its conversation and the open ones of its channel's posts: a private
// reply is decided there, and echoed to its author. i is the attempt that is proven.
//
// An attempt that is open will have an answer soon, by which its echo is known.
// One whose answer was lost won't; it is told by its words, as there is nothing
// else. Should a person write the very words of a message that is in doubt, the
// contact has them, and they aren't sent again.
func (r *Receipt) Whose(said *Echo, attempts []Attempt, now time.Time) (of EchoOf, i int) {
	for i := range attempts {
		a := &attempts[i]
		if a.Send.Signal != nil || a.Send.Reaction != nil || !r.Time.IsZero() && r.Time.Add(echoSkew).Before(a.At) {
			continue // it has no echo, or wasn't yet decided
		}
		sort, _ := a.Conversation.Contact.Split()
		shown := sort != SubjectKey && shows(said, &a.Send)
		lost := a.Doubtful || !a.Open
		switch {
		case lost && shown && said.Text != "":
			return EchoProof, i
		case lost && shown:
			return EchoOfOurs, i
		case a.Open && now.Sub(a.Claimed) < EchoWait:
			of = EchoUndecided
		}
	}
	return of, 0
}

// shows reports whether an echo looks like that of s: the same words, or none for
// what has more than words.
func shows(said *Echo, s *Send) bool {
	if said.Text != "" {
		return said.Text == s.Text
	}
	return len(s.Buttons) > 0 || s.Media != nil || len(s.Cards) > 0 || s.Template != nil
}
