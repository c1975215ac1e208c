package meta

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// maxMessageBytes is the part of the provider's words that is kept.
const maxMessageBytes = 300

// GraphError is a send that did not end in a provider's id. Its text holds the
// provider's words and codes, never the message or the token.
type GraphError struct {
	HTTP       int // status; 0 if there was no answer
	Code       int // Meta's, 0 if none
	Subcode    int // Meta's, 0 if none
	Transient  bool
	Class      Class
	Scope      Scope
	Tries      int           // how often it is worth trying in all; 0: the caller decides
	RetryAfter time.Duration // what the provider asked for or the documents say; 0 if neither
	Message    string        // the provider's words
	Cause      error         // the transport's error, if there was no answer
}

func (e *GraphError) Error() string {
	switch {
	case e.Cause != nil:
		return fmt.Sprintf("%s: %v", e.Class, e.Cause)
	case e.Code == 0 && e.Message == "":
		return fmt.Sprintf("%s: HTTP %d without a Graph answer", e.Class, e.HTTP)
	}
	return fmt.Sprintf("%s: HTTP %d, code %d/%d: %s", e.Class, e.HTTP, e.Code, e.Subcode, e.Message)
}

// Unwrap is the transport's error.
func (e *GraphError) Unwrap() error { return e.Cause }

// Failure says what of e concerns the bot that wanted the message: the window for
// it is closed, or its contact has stopped marketing. Empty: nothing of it does.
func (e *GraphError) Failure() parley.Failure {
	switch [2]int{e.Code, e.Subcode} {
	case [2]int{131047, 0}, [2]int{10, 2018278}, [2]int{10, 2018065}, [2]int{10, 2534022}:
		return parley.WindowClosed
	case [2]int{131050, 0}, [2]int{10, 1893015}:
		return parley.OptedOut
	}
	return ""
}

// ClassOf is the class of an error of [Client.Send]: that of the GraphError, and
// ClassPermanent of a message that could not be encoded.
func ClassOf(err error) Class {
	if g, ok := errors.AsType[*GraphError](err); ok {
		return g.Class
	}
	return ClassPermanent
}

// graphBody is the body of an answer, of whichever platform.
type graphBody struct {
	MessageID text `json:"message_id"` // Messenger, Instagram
	Messages  []struct {
		ID text `json:"id"`
	} `json:"messages"` // WhatsApp
	Uploaded text `json:"attachment_id"` // Messenger, Instagram
	MediaID  text `json:"id"`            // WhatsApp
	Error    *struct {
		Message   string `json:"message"`
		Code      count  `json:"code"`
		Subcode   count  `json:"error_subcode"`
		Transient flag   `json:"is_transient"`
		Data      *struct {
			Details string `json:"details"`
		} `json:"error_data"`
	} `json:"error"`
}

// refuses reports whether the body is a refusal of Meta's: it says what, by a code or
// in words. Something in between may send an error that says nothing, and that is none:
// read as code 0 it would stop a channel.
func (b *graphBody) refuses() bool {
	return b.Error != nil && (b.Error.Code != 0 || quotable(b.Error.Message) != "")
}

// answer is what came back, as far as it matters.
type answer struct {
	status int
	body   []byte
	retry  string // Retry-After
	usage  Usage
}

// read finds the provider's id in an answer, or says what the answer means.
func (a *answer) read(kind parley.ChannelKind) (string, error) {
	b, err := a.decode(kind)
	switch {
	case b == nil:
		return "", err
	case b.MessageID != "":
		return string(b.MessageID), nil
	case len(b.Messages) > 0 && b.Messages[0].ID != "":
		return string(b.Messages[0].ID), nil
	}
	return "", a.nameless("message")
}

// readAction reads the answer to a signal or a reaction. WhatsApp tells the id of
// a reaction; of the rest, a success is all that there is to know.
func (a *answer) readAction(kind parley.ChannelKind) (string, error) {
	id, err := a.read(kind)
	if g, ok := errors.AsType[*GraphError](err); ok && g.Class == ClassUnknown && a.status/100 == 2 {
		return "", nil
	}
	return id, err
}

// decode is the body of an answer that is no refusal. There is none, and no
// error, if the answer is the refusal that means that all was sent.
func (a *answer) decode(kind parley.ChannelKind) (*graphBody, error) {
	var b graphBody
	readable := json.Unmarshal(a.body, &b, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) == nil
	switch {
	case readable && b.refuses():
		if e := a.graphError(kind, &b); e.Class != ClassSent {
			return nil, e
		}
		return nil, nil //nolint:nilnil // see above
	case a.status/100 != 2:
		return nil, a.statusError()
	case !readable:
		return nil, a.nameless("message")
	}
	return &b, nil
}

// nameless is a success that doesn't tell the id of what.
func (a *answer) nameless(what string) *GraphError {
	return &GraphError{HTTP: a.status, Class: ClassUnknown, Message: "answer without a " + what + " id"}
}

func (a *answer) graphError(kind parley.ChannelKind, b *graphBody) *GraphError {
	x := b.Error
	e := &GraphError{
		HTTP: a.status, Code: int(x.Code), Subcode: int(x.Subcode), Transient: bool(x.Transient), Message: x.Message,
	}
	if x.Data != nil && x.Data.Details != "" {
		e.Message += ": " + x.Data.Details
	}
	e.Message = quotable(e.Message[:min(len(e.Message), maxMessageBytes)])
	t, known := Treat(kind, e.Code, e.Subcode)
	if !known {
		t = a.treatment(e.Transient)
	}
	e.Class, e.Scope, e.Tries = t.Class, t.Scope, t.Tries
	if e.Transient && e.Class == ClassRetry {
		e.Tries = 0 // Meta itself says that it will pass: a message isn't given up for that after a few seconds
	}
	e.RetryAfter = cmp.Or(a.asked(), t.Wait)
	return e
}

// HTTP statuses by which unknown codes are treated.
const (
	statusUnauthorized    = 401
	statusForbidden       = 403
	statusTimeout         = 408
	statusTooManyRequests = 429
	statusServerError     = 500
)

// treatment of a Graph error with a code that isn't known: Meta did refuse.
func (a *answer) treatment(transient bool) Treatment {
	switch {
	case a.status == statusTooManyRequests:
		return wait(ScopeChannel, appWait, "")
	case transient, a.status >= statusServerError:
		return retry(0, "")
	case a.status == statusUnauthorized, a.status == statusForbidden:
		return tenant(ScopeChannel, "")
	}
	return permanent("")
}

// statusError is an answer that isn't the Graph API's: of something in between.
// After a server error or a time-out nobody knows what became of the request;
// anything else was turned away before it got there.
func (a *answer) statusError() *GraphError {
	e := &GraphError{HTTP: a.status, Class: ClassRetry, RetryAfter: a.asked()}
	switch {
	case a.status == statusTooManyRequests:
		e.Class, e.Scope, e.RetryAfter = ClassWait, ScopeChannel, cmp.Or(e.RetryAfter, appWait)
	case a.status >= statusServerError, a.status == statusTimeout:
		e.Class = ClassUnknown
	}
	return e
}

// maxAsked bounds a wait that the provider asks for.
const maxAsked = 24 * time.Hour

// asked is how long the provider asks to wait: Retry-After in seconds, or the
// longest time to regain access that the usage headers tell.
func (a *answer) asked() time.Duration {
	if s, err := strconv.Atoi(a.retry); err == nil && s > 0 {
		return bounded(s, time.Second)
	}
	return a.usage.Wait
}

func bounded(n int, unit time.Duration) time.Duration {
	if n > int(maxAsked/unit) {
		return maxAsked
	}
	return time.Duration(n) * unit
}
