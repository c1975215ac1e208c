package flowtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parleychat/parley"
)

// Answer is what a service answers to a call of the bot.
type Answer struct {
	Status int // 100 to 599
	Body   []byte
	// Failure, if set, says why there is no answer at all, and Reason the details.
	Failure parley.CallFailure
	Reason  string
}

// Service answers the calls of a service that is not there.
type Service func(parley.Call) Answer

func (a Answer) check() error {
	known := []parley.CallFailure{parley.CallRefused, parley.CallGaveUp, parley.CallTooLarge, parley.CallUnknown}
	switch {
	case a.Failure != "" && !slices.Contains(known, a.Failure):
		return fmt.Errorf("failure %q: want one of %q", a.Failure, known)
	case a.Failure == "" && (a.Status < 100 || a.Status > 599):
		return fmt.Errorf("status %d: want 100 to 599", a.Status)
	case a.Failure == "" && a.Reason != "":
		return errors.New("answer with a status and a reason")
	}
	return nil
}

// String is the form in transcripts.
func (a Answer) String() string {
	if a.Failure != "" {
		return strings.TrimRight("fails "+string(a.Failure)+" "+optional(a.Reason), " ")
	}
	return strings.TrimRight(fmt.Sprintf("%d %s", a.Status, optional(string(a.Body))), " ")
}

// to is what the conversation hears of its call.
func (a Answer) to(c *parley.OutgoingCall) parley.Called {
	if a.Failure == "" {
		return c.Answer(a.Status, a.Body, 1)
	}
	return parley.Called{ID: c.ID, Name: c.Call.Name, Service: c.Call.Service, Failure: a.Failure, Reason: a.Reason, Attempts: 1}
}

// fits reports whether the stub answers the call.
func (s *stub) fits(c *parley.Call) bool {
	method := c.Method
	if method == "" {
		method = "POST"
	}
	return s.service == c.Service && (s.method == "" || s.method == method) && (s.path == "" || s.path == c.Path) &&
		(len(s.body) == 0 || string(s.body) == string(compact(c.Body)))
}

// shownCall is what is behind the word bot.
func shownCall(c *parley.Call) string {
	parts := []string{" calls", shownWord(c.Service)}
	if c.Name != c.Service {
		parts = append(parts, "as", shownWord(c.Name))
	}
	if c.Method != "" {
		parts = append(parts, c.Method)
	}
	if c.Path != "" {
		parts = append(parts, c.Path)
	}
	if len(c.Body) > 0 {
		parts = append(parts, string(compact(c.Body)))
	}
	if c.Within > 0 {
		parts = append(parts, "within", shownDuration(c.Within))
	}
	return strings.Join(parts, " ")
}
