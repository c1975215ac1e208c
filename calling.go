package parley

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"
)

// storedCall is the stored form of what a call asks.
type storedCall struct {
	Format int `json:"format,omitempty"` // none: the generation that brought calls
	callFields
}

// callFields are those of a Call, and nothing else of it.
type callFields Call

// EncodeContent is the stored form of what the call asks.
func (c *OutgoingCall) EncodeContent() ([]byte, error) {
	b, err := json.Marshal(storedCall{callFields: callFields(c.Call)})
	if err != nil {
		return nil, fmt.Errorf("encode call: %w", err)
	}
	return b, nil
}

// DecodeContent reads what EncodeContent wrote; what is of a newer generation is
// ErrFormat.
func (c *OutgoingCall) DecodeContent(b []byte) error {
	var s storedCall
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("decode call: %w", err)
	}
	if s.Format > Format {
		return fmt.Errorf("call of format %d: %w", s.Format, ErrFormat)
	}
	c.Call = Call(s.callFields)
	return nil
}

// CallQuery says which calls are to be claimed. Those of one service never stand in
// the way of another's.
type CallQuery struct {
	Holder   string       // whose claims they will be: see NewClaim
	Services []CallPlaces // each named once
	// Others are for calls of services that aren't among Services: of those that have
	// been due for OthersAfter. Its own Service is empty.
	Others      CallPlaces
	OthersAfter time.Duration
}

// CallPlaces are how many calls of a service may be claimed, and for how long.
type CallPlaces struct {
	Service string
	Limit   int
	Lease   time.Duration // by the store's clock; then the call may be claimed again
}

// ClaimedCall is a call that the store has given to a caller for a lease. Whoever
// lets the lease end loses the claim to the next, and no outcome of his counts.
type ClaimedCall struct {
	OutgoingCall
	Claim    Token         // drawn anew for each claim: see NewClaim
	Age      time.Duration // since the turn, by the store's clock
	Attempts int           // that have failed so far
	Status   int           // of the last of them; 0 if there was no answer
	Cause    string        // why it failed
}

// NewClaim is the token of a claim: its upper half is the holder's, so that what he
// has claimed is found when he is lost, and the lower half random, but not 0. Two
// holders may have the same half: then one loses claims with the other, and his calls
// are made again.
func NewClaim(holder string, random uint32) Token {
	h := fnv.New32a()
	_, _ = h.Write([]byte(holder)) // a hash never fails
	return Token(uint64(h.Sum32())<<32 | uint64(random|1))
}

// ClaimedBy reports whether the token is of a claim of that holder.
func (t Token) ClaimedBy(holder string) bool { return t>>32 == NewClaim(holder, 0)>>32 }

// CallOutcome is what came of a claim: an answer, which ends the call, or none yet.
type CallOutcome struct {
	Of     *ClaimedCall
	Answer *Called
	// Without an answer the call is due again after Wait.
	Wait time.Duration
	// Uncounted leaves the attempts, and what is known of the last, as they are: none
	// was made, or it was broken off by us.
	Uncounted bool
	Status    int
	Cause     string // in our words: nothing of the request or the answer
}

// SettledCalls is what came of outcomes.
type SettledCalls struct {
	Rows []Pending // of the answers
	Lost int       // outcomes that don't count: their claim was lost, or the call cancelled
}

// PendingCall is a call that isn't answered yet, and how its attempts stand.
type PendingCall struct {
	OutgoingCall
	Attempts int
	Status   int
	Cause    string
	Due      time.Time // of the next attempt, or since when it waits for the first
}
