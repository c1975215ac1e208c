package parley

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Input is what can happen to a conversation. The sum is closed: a switch over
// it lists every type with a Kind. Inputs are values, never pointers.
//
//sumtype:decl
type Input interface {
	// Kind is the stored name of the input. It never changes, whatever the Go
	// type is called.
	Kind() string
	isInput()
}

// Message is a message of the contact.
type Message struct {
	ID          string       `json:"id,omitempty"` // Meta's mid or wamid
	Text        string       `json:"text,omitempty"`
	Payload     string       `json:"payload,omitempty"` // of the quick reply, button or list row that was chosen
	Attachments []Attachment `json:"attachments,omitempty"`
	Location    *Location    `json:"location,omitempty"`
	ReplyTo     *ReplyTo     `json:"reply_to,omitempty"`
	Referral    *Referral    `json:"referral,omitempty"`
	From        Contact      `json:"from,omitempty"` // the author, if the conversation is a group
	Forwarded   bool         `json:"forwarded,omitempty"`
	// Unsupported names what the platform could not pass on ("poll_creation",
	// "unsupported_type"); the message then has little else.
	Unsupported string `json:"unsupported,omitempty"`
	// Extra holds what has no field above, as the platform sent it: an order, a
	// form's answer, shared contacts, NLP results.
	Extra json.RawMessage `json:"extra,omitempty"`
}

// Attachment is media that came with a message. Messenger and Instagram give a
// URL that expires, WhatsApp an ID to fetch it by.
type Attachment struct {
	Type    string          `json:"type"` // as the platform says it: image, audio, sticker, share …
	URL     string          `json:"url,omitempty"`
	ID      string          `json:"id,omitempty"`
	MIME    string          `json:"mime,omitempty"`
	SHA256  string          `json:"sha256,omitempty"`
	Caption string          `json:"caption,omitempty"`
	Name    string          `json:"name,omitempty"`
	Raw     json.RawMessage `json:"raw,omitempty"` // the payload of a type that has more than a URL
}

// Location is a place that was shared; degrees.
type Location struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
	Address   string  `json:"address,omitempty"`
}

// ReplyTo says what a message answers: another message, or a story.
type ReplyTo struct {
	MessageID string `json:"message_id,omitempty"`
	StoryID   string `json:"story_id,omitempty"`
	StoryURL  string `json:"story_url,omitempty"`
}

// Referral says by which link or ad the contact came.
type Referral struct {
	Ref    string          `json:"ref,omitempty"`
	Source string          `json:"source,omitempty"` // SHORTLINK, ADS, ad, post …
	Type   string          `json:"type,omitempty"`
	AdID   string          `json:"ad_id,omitempty"`
	Raw    json.RawMessage `json:"raw,omitempty"` // the whole object
}

// Postback is a press on a button of an earlier message or of a menu.
type Postback struct {
	ID       string    `json:"id,omitempty"`
	Title    string    `json:"title,omitempty"`
	Payload  string    `json:"payload,omitempty"`
	Referral *Referral `json:"referral,omitempty"`
}

// Edited is a change of an earlier message of the contact.
type Edited struct {
	ID    string `json:"id"`
	Text  string `json:"text,omitempty"`
	Edits int    `json:"edits,omitempty"` // how often it has been edited by now
}

// Deleted is the withdrawal of an earlier message by the contact.
type Deleted struct {
	ID string `json:"id"`
}

// Reaction is a reaction to a message, or its removal.
type Reaction struct {
	MessageID string `json:"message_id"`
	Emoji     string `json:"emoji,omitempty"`
	Name      string `json:"name,omitempty"` // Messenger's word for it: love, smile, other …
	Removed   bool   `json:"removed,omitempty"`
}

// Referred is the arrival of a contact in an open thread by a link or an ad.
type Referred struct {
	Referral Referral `json:"referral"`
}

// OptIn is a consent: a plugin, or a subscription to marketing messages.
type OptIn struct {
	Type    string          `json:"type,omitempty"`
	Ref     string          `json:"ref,omitempty"`
	Payload string          `json:"payload,omitempty"`
	Status  string          `json:"status,omitempty"` // STOP or RESUME, of marketing messages
	Raw     json.RawMessage `json:"raw,omitempty"`
}

// Preference is the contact's wish about marketing messages (WhatsApp
// user_preferences): Value is stop or resume.
type Preference struct {
	Category string `json:"category,omitempty"`
	Value    string `json:"value"`
	Detail   string `json:"detail,omitempty"`
}

// AccountLink says that the contact linked or unlinked an account of the brand.
type AccountLink struct {
	Status            string `json:"status"` // linked, unlinked
	AuthorizationCode string `json:"authorization_code,omitempty"`
}

// ThreadControl is a move of the thread between apps: pass, take or request.
type ThreadControl struct {
	Action   string `json:"action"` // pass, take, request, roles
	From     string `json:"from,omitempty"`
	To       string `json:"to,omitempty"`
	Metadata string `json:"metadata,omitempty"`
	// Raw is the object as sent; app ids come as strings, numbers or null.
	Raw json.RawMessage `json:"raw,omitempty"`
}

// Echo is a message that someone other than this bot sent to the contact: a
// person in the inbox, the business's phone app, another app. A bot must not
// answer it. On Instagram it may come late by as long as a send of ours to the same
// contact takes, see [Receipt.Whose].
type Echo struct {
	ID          string       `json:"id,omitempty"`
	App         string       `json:"app,omitempty"` // Meta's id of the sending app, if known
	Text        string       `json:"text,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Phone       bool         `json:"phone,omitempty"` // from the business's WhatsApp phone app
}

// Overheard is an event of a thread that another app owns (Messenger standby):
// to be known, not to be answered.
type Overheard struct {
	Of  string          `json:"of"` // message, postback, read …
	ID  string          `json:"id,omitempty"`
	Raw json.RawMessage `json:"raw"`
}

// Comment is what happens to a post of the channel: a comment, a mention, a
// reaction, a rating. Its conversation is the post's.
type Comment struct {
	Field    string          `json:"field"`          // feed, mention, ratings, comments, live_comments, mentions …
	Item     string          `json:"item,omitempty"` // comment, post, reaction …
	Verb     string          `json:"verb,omitempty"` // add, edited, remove …
	ID       string          `json:"id,omitempty"`   // the comment's
	PostID   string          `json:"post_id,omitempty"`
	ParentID string          `json:"parent_id,omitempty"`
	FromID   string          `json:"from_id,omitempty"`
	FromName string          `json:"from_name,omitempty"`
	Text     string          `json:"text,omitempty"`
	Raw      json.RawMessage `json:"raw,omitempty"`
}

// Lead is a filled-in lead form.
type Lead struct {
	ID     string          `json:"id"`
	FormID string          `json:"form_id,omitempty"`
	AdID   string          `json:"ad_id,omitempty"`
	Raw    json.RawMessage `json:"raw,omitempty"`
}

// PhoneCall is an event of a WhatsApp voice call.
type PhoneCall struct {
	ID        string          `json:"id"`
	Event     string          `json:"event,omitempty"` // connect, terminate …
	Direction string          `json:"direction,omitempty"`
	Raw       json.RawMessage `json:"raw,omitempty"`
}

// ContactChanged says that a contact is now known by other keys: a new phone
// number, a new business-scoped id.
type ContactChanged struct {
	Was []Contact       `json:"was,omitempty"`
	Now []Contact       `json:"now,omitempty"`
	Raw json.RawMessage `json:"raw,omitempty"`
}

// Notice is a documented event that is about the channel, the account or the
// thread as a whole and that no bot acts on by itself: template and quality
// changes, policy enforcement, group settings, history, payments.
type Notice struct {
	Field string          `json:"field"`
	Event string          `json:"event,omitempty"`
	Raw   json.RawMessage `json:"raw"`
}

// Unknown is an event of an object, field or type that this program does not
// know. Nothing of it is lost: Raw is the update as it came.
type Unknown struct {
	Object string          `json:"object"`
	Field  string          `json:"field,omitempty"`
	Type   string          `json:"type,omitempty"`
	Raw    json.RawMessage `json:"raw"`
}

// TimerFired is a timer of the conversation that has become due.
type TimerFired struct {
	Name       string    `json:"name"`
	Generation uint64    `json:"generation"`
	Due        time.Time `json:"due"`
	// Retried says that it fired before, and its event was a dead letter that an
	// operator has retried: it isn't among the live timers any more.
	Retried bool `json:"retried,omitempty"`
}

// SendFailed says that a message was not delivered: the provider reported so after
// it had taken it, or it could not be sent for a reason that concerns the bot
// (Why).
type SendFailed struct {
	ID         ID     `json:"id"`                    // of the Outgoing, if known
	ProviderID string `json:"provider_id,omitempty"` // Meta's id of the message
	Code       int    `json:"code,omitempty"`
	Reason     string `json:"reason,omitempty"` // the provider's words, or ours if Why is set
	// Why, if set, says that the message was refused before or when it was handed
	// over, and for what. What the turn that hears of it sends, and would be refused
	// for the same by the provider, becomes a dead letter at once.
	Why Failure `json:"why,omitempty"`
}

// Kind names an input in the store.
func (Message) Kind() string         { return "message" }
func (Postback) Kind() string        { return "postback" }
func (Edited) Kind() string          { return "edited" }
func (Deleted) Kind() string         { return "deleted" }
func (Reaction) Kind() string        { return "reaction" }
func (Referred) Kind() string        { return "referred" }
func (OptIn) Kind() string           { return "opt_in" }
func (Preference) Kind() string      { return "preference" }
func (AccountLink) Kind() string     { return "account_link" }
func (ThreadControl) Kind() string   { return "thread_control" }
func (Echo) Kind() string            { return "echo" }
func (Overheard) Kind() string       { return "overheard" }
func (Comment) Kind() string         { return "comment" }
func (Lead) Kind() string            { return "lead" }
func (PhoneCall) Kind() string       { return "phone_call" }
func (ContactChanged) Kind() string  { return "contact_changed" }
func (Notice) Kind() string          { return "notice" }
func (Unknown) Kind() string         { return "unknown" }
func (TimerFired) Kind() string      { return "timer_fired" }
func (SendFailed) Kind() string      { return "send_failed" }
func (Called) Kind() string          { return "called" }
func (SpeakerReturned) Kind() string { return "speaker_returned" }

func (Message) isInput()         {}
func (Postback) isInput()        {}
func (Edited) isInput()          {}
func (Deleted) isInput()         {}
func (Reaction) isInput()        {}
func (Referred) isInput()        {}
func (OptIn) isInput()           {}
func (Preference) isInput()      {}
func (AccountLink) isInput()     {}
func (ThreadControl) isInput()   {}
func (Echo) isInput()            {}
func (Overheard) isInput()       {}
func (Comment) isInput()         {}
func (Lead) isInput()            {}
func (PhoneCall) isInput()       {}
func (ContactChanged) isInput()  {}
func (Notice) isInput()          {}
func (Unknown) isInput()         {}
func (TimerFired) isInput()      {}
func (SendFailed) isInput()      {}
func (Called) isInput()          {}
func (SpeakerReturned) isInput() {}

const (
	inputKind  = `{"kind":"`
	inputValue = `","input":`
)

// EncodeInput is the stored form of an input: {"kind":…,"input":…}.
func EncodeInput(in Input) ([]byte, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", in.Kind(), err)
	}
	out := make([]byte, 0, len(inputKind)+len(in.Kind())+len(inputValue)+len(b)+1)
	out = append(out, inputKind...)
	out = append(out, in.Kind()...)
	out = append(out, inputValue...)
	out = append(out, b...)
	return append(out, '}'), nil
}

// DecodeInput reads what EncodeInput wrote. A kind that this program doesn't
// know wraps ErrFormat: a newer version stored it.
func DecodeInput(data []byte) (Input, error) {
	if in, ok := decodePlain(data); ok {
		return in, nil
	}
	var env struct {
		Kind  string          `json:"kind"`
		Input json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(data, &env); err != nil {
		return nil, fmt.Errorf("decode input: %w", err)
	}
	decode := inputDecoder(env.Kind)
	if decode == nil {
		return nil, fmt.Errorf("input of kind %q: %w", cut(env.Kind, MaxNameBytes), ErrFormat)
	}
	in, err := decode(env.Input)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", env.Kind, err)
	}
	return in, nil
}

// decodePlain reads exactly what EncodeInput writes, without going through it twice.
func decodePlain(data []byte) (Input, bool) {
	rest, ok := bytes.CutPrefix(data, []byte(inputKind))
	kind, rest, ok2 := bytes.Cut(rest, []byte(inputValue))
	rest, ok3 := bytes.CutSuffix(rest, []byte{'}'})
	if !ok || !ok2 || !ok3 {
		return nil, false
	}
	if string(kind) == (Message{}).Kind() {
		if m, ok := plainMessage(rest); ok {
			return m, true
		}
	}
	decode := inputDecoder(string(kind))
	if decode == nil {
		return nil, false
	}
	in, err := decode(rest)
	return in, err == nil
}

// plainMessage reads a message that has nothing but an id, a text and a payload, with
// nothing escaped in them. Most are so, and with encoding/json it is several times the
// work, on a node that gets them from another for nearly every turn.
func plainMessage(data []byte) (m Message, ok bool) {
	before := byte('{')
	for _, f := range [...]struct {
		name string
		to   *string
	}{{`"id":"`, &m.ID}, {`"text":"`, &m.Text}, {`"payload":"`, &m.Payload}} {
		if len(data) == 0 || data[0] != before {
			break
		}
		value, is := bytes.CutPrefix(data[1:], []byte(f.name))
		if !is {
			continue
		}
		n := plainLen(value)
		if n < 0 {
			return Message{}, false
		}
		*f.to, data, before = string(value[:n]), value[n+1:], ','
	}
	return m, before == ',' && string(data) == "}"
}

// plainLen is how long the string is that data begins with, up to its closing quote; -1
// if there is none, or something in it doesn't stand for itself.
func plainLen(data []byte) int {
	for n, c := range data {
		switch {
		case c == '"' && utf8.Valid(data[:n]):
			return n
		case c == '"' || c == '\\' || c < ' ':
			return -1
		}
	}
	return -1
}

type decodeFunc func(json.RawMessage) (Input, error)

func decodeAs[T Input](raw json.RawMessage) (Input, error) {
	var in T
	err := json.Unmarshal(raw, &in)
	return in, err
}

// inputDecoder knows every kind; nil for one that a newer version brought.
func inputDecoder(kind string) decodeFunc {
	switch kind {
	case "message":
		return decodeAs[Message]
	case "postback":
		return decodeAs[Postback]
	case "edited":
		return decodeAs[Edited]
	case "deleted":
		return decodeAs[Deleted]
	case "reaction":
		return decodeAs[Reaction]
	case "referred":
		return decodeAs[Referred]
	case "opt_in":
		return decodeAs[OptIn]
	case "preference":
		return decodeAs[Preference]
	case "account_link":
		return decodeAs[AccountLink]
	case "thread_control":
		return decodeAs[ThreadControl]
	case "echo":
		return decodeAs[Echo]
	case "overheard":
		return decodeAs[Overheard]
	case "comment":
		return decodeAs[Comment]
	case "lead":
		return decodeAs[Lead]
	case "phone_call":
		return decodeAs[PhoneCall]
	case "contact_changed":
		return decodeAs[ContactChanged]
	case "notice":
		return decodeAs[Notice]
	case "unknown":
		return decodeAs[Unknown]
	}
	return ownDecoder(kind)
}

// ownDecoder knows the kinds that come from ourselves.
func ownDecoder(kind string) decodeFunc {
	switch kind {
	case "timer_fired":
		return decodeAs[TimerFired]
	case "send_failed":
		return decodeAs[SendFailed]
	case "called":
		return decodeAs[Called]
	case "speaker_returned":
		return decodeAs[SpeakerReturned]
	}
	return nil
}
