package parley

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// QuickReply is an answer that is offered with a message. Messenger and
// Instagram show up to 13 of them, WhatsApp up to 3, as buttons, and up to 10 as
// a list.
type QuickReply struct {
	Title   string `json:"title"`
	Payload string `json:"payload"` // comes back as Message.Payload
}

// Button is under a text or a card, and stays there. With a URL it opens that;
// without one it comes back, as a Postback on Messenger and Instagram, as a
// Message with its payload on WhatsApp, which shows up to three buttons of the
// second sort or one of the first.
type Button struct {
	Title   string `json:"title"`
	Payload string `json:"payload,omitempty"` // comes back; the title if empty
	URL     string `json:"url,omitempty"`
}

// List is a menu that a button opens (WhatsApp).
type List struct {
	Button   string        `json:"button,omitempty"` // its label; a default of the channel's if empty
	Sections []ListSection `json:"sections"`
}

// ListSection is a part of a list. It needs a title if there are several.
type ListSection struct {
	Title string    `json:"title,omitempty"`
	Rows  []ListRow `json:"rows"`
}

// ListRow is a line of a list, of which one can be chosen.
type ListRow struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Payload     string `json:"payload,omitempty"` // comes back as Message.Payload; the title if empty
}

// Flow opens a form of several screens (WhatsApp).
type Flow struct {
	ID     string `json:"id"`
	Token  string `json:"token"`  // identifies this use of the flow to its endpoint
	Button string `json:"button"` // its label
	// Screen is the first one, and Data, a JSON object, what it is given. With no
	// screen the flow's endpoint is asked which is first.
	Screen string          `json:"screen,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Draft  bool            `json:"draft,omitempty"` // the version that isn't published yet
}

// MediaKind says what media are. The values are stored; they never change.
type MediaKind string

// The kinds of media.
const (
	Image    MediaKind = "image"
	Audio    MediaKind = "audio"
	Video    MediaKind = "video"
	Document MediaKind = "document" // any file
	Sticker  MediaKind = "sticker"  // WhatsApp
)

// Valid reports whether k is one of the kinds above.
func (k MediaKind) Valid() bool {
	switch k {
	case Image, Audio, Video, Document, Sticker:
		return true
	}
	return false
}

// Media is a file, by a URL from which the platform fetches it, or by the id
// under which it was uploaded. At high rates, upload once and send the id.
type Media struct {
	Kind    MediaKind `json:"kind"`
	URL     string    `json:"url,omitempty"`
	ID      string    `json:"id,omitempty"`
	Caption string    `json:"caption,omitempty"` // WhatsApp, and not of audio and stickers
	Name    string    `json:"name,omitempty"`    // of a document on WhatsApp; others take it from the URL
}

// Card is one of several things shown side by side. It has something beside its
// title.
type Card struct {
	Title    string   `json:"title"`
	Subtitle string   `json:"subtitle,omitempty"`
	ImageURL string   `json:"image_url,omitempty"`
	URL      string   `json:"url,omitempty"` // opens when the card is tapped
	Buttons  []Button `json:"buttons,omitempty"`
}

// Category is what a template was approved for. The values are Meta's.
type Category string

// The categories of templates.
const (
	Marketing      Category = "marketing" // not sent to whoever opted out
	Utility        Category = "utility"
	Authentication Category = "authentication"
)

// Valid reports whether c is one of the categories above.
func (c Category) Valid() bool {
	switch c {
	case Marketing, Utility, Authentication:
		return true
	}
	return false
}

// Template is a message that Meta has approved and that may be sent at any time
// (WhatsApp, and those for utility on Messenger).
type Template struct {
	Name       string      `json:"name"`
	Language   string      `json:"language"` // as it was approved: en_US, de
	Category   Category    `json:"category"` // as it was approved
	Components []Component `json:"components,omitempty"`
}

// Component fills in a part of a template.
type Component struct {
	Type       string      `json:"type,omitempty"`     // header, body, button
	SubType    string      `json:"sub_type,omitempty"` // of a button: quick_reply, url, copy_code, flow …
	Index      int         `json:"index,omitempty"`    // of a button, from 0
	Parameters []Parameter `json:"parameters,omitempty"`
	// Raw is the whole component, in place of the fields above, as Meta documents
	// it: for a carousel and the like.
	Raw json.RawMessage `json:"raw,omitempty"`
}

// Parameter is the value of a placeholder. It has one of Text, Payload, Code,
// Media and Location.
type Parameter struct {
	Name     string    `json:"name,omitempty"` // if the template's placeholders have names
	Text     string    `json:"text,omitempty"`
	Payload  string    `json:"payload,omitempty"` // of a quick-reply button
	Code     string    `json:"code,omitempty"`    // of a button that copies it
	Media    *Media    `json:"media,omitempty"`   // of a header: image, video, document
	Location *Location `json:"location,omitempty"`
}

// SignalKind says what a signal tells the contact. The values are stored.
type SignalKind string

// The kinds of signals.
const (
	// MarkRead shows the contact's messages up to MessageID, or all, as read.
	MarkRead SignalKind = "mark_read"
	// Typing shows that an answer is being written: until it comes, at most some
	// 25 s. On WhatsApp it marks as read, too.
	Typing SignalKind = "typing"
	// TypingOff ends Typing (Messenger, Instagram).
	TypingOff SignalKind = "typing_off"
	// PassThread tells no contact, but Meta, that the thread is another app's (App):
	// that app gets its events and may write to it. TakeThread takes it back, which Meta
	// allows to the account's default app (Messenger, Instagram). A HandOff does both by
	// itself where that is configured.
	PassThread SignalKind = "pass_thread"
	TakeThread SignalKind = "take_thread"
)

// Valid reports whether k is one of the kinds above.
func (k SignalKind) Valid() bool {
	switch k {
	case MarkRead, Typing, TypingOff, PassThread, TakeThread:
		return true
	}
	return false
}

// Signal tells the contact something that isn't a message. If its fate is
// unknown it is simply given again.
type Signal struct {
	Kind      SignalKind `json:"kind"`
	MessageID string     `json:"message_id,omitempty"` // the contact's last message; WhatsApp needs it
	App       string     `json:"app,omitempty"`        // of PassThread: Meta's number of the app
}

// OfThread reports whether the signal is about who has the thread.
func (s *Signal) OfThread() bool { return s.Kind == PassThread || s.Kind == TakeThread }

func (s *Signal) validate() error {
	switch {
	case !s.Kind.Valid():
		return fmt.Errorf("signal %q: want mark_read, typing, typing_off, pass_thread or take_thread", s.Kind)
	case (s.Kind == PassThread) != (s.App != ""):
		return fmt.Errorf("signal %s: an app goes with pass_thread, and with nothing else", s.Kind)
	case s.App != "" && !ValidApp(s.App):
		return fmt.Errorf("signal %s: an app is Meta's number of it, up to %d digits (MaxAppDigits)", s.Kind, MaxAppDigits)
	}
	return nil
}

// MaxAppDigits bounds Meta's numbers of apps, which have 15 or 16 digits.
const MaxAppDigits = 20

// ValidApp reports whether s may be Meta's number of an app.
func ValidApp(s string) bool {
	return s != "" && len(s) <= MaxAppDigits && strings.Trim(s, "0123456789") == ""
}

// PrivateReply names what is replied to in private: a comment (Messenger,
// Instagram) or a post that somebody wrote on the Page (Messenger). Meta takes
// one reply for each.
type PrivateReply struct {
	Comment string `json:"comment,omitempty"` // Comment.ID
	Post    string `json:"post,omitempty"`    // Comment.PostID
}

// Contents names what s has as its content: one name, if s is valid.
func (s *Send) Contents() []string {
	var names []string
	worded := false // the content goes with a text
	for _, c := range [...]struct {
		name       string
		set, words bool
	}{
		{"buttons", len(s.Buttons) > 0, true},
		{"list", s.List != nil, true},
		{"flow", s.Flow != nil, true},
		{"ask_location", s.AskLocation, true},
		{"media", s.Media != nil, false},
		{"cards", len(s.Cards) > 0, false},
		{"location", s.Location != nil, false},
		{"template", s.Template != nil, false},
		{"reaction", s.Reaction != nil, false},
		{"signal", s.Signal != nil, false},
	} {
		if c.set {
			names, worded = append(names, c.name), worded || c.words
		}
	}
	if s.Text != "" && !worded {
		names = append([]string{"text"}, names...)
	}
	return names
}

// Validate says what is wrong with s, on whatever platform: no content or more
// than one, a part that is missing, a limit of this package that is passed.
func (s *Send) Validate() error {
	if len(s.Text) > MaxTextBytes {
		return fmt.Errorf("text of %d bytes: at most %d (MaxTextBytes)", len(s.Text), MaxTextBytes)
	}
	if s.onlyText() {
		if s.Text == "" {
			return errors.New("empty text in send")
		}
		return s.checkParts("text") // which bound the whole
	}
	names := s.Contents()
	if len(names) > 1 {
		return fmt.Errorf("send has %s: want one content", strings.Join(names, " and "))
	}
	if s.Text == "" && wantsWords(names[0]) {
		return fmt.Errorf("empty text in send of %s", names[0])
	}
	if err := s.checkParts(names[0]); err != nil {
		return err
	}
	b, err := json.Marshal(s) // also: whether raw JSON is JSON
	if err != nil {
		return fmt.Errorf("send has no stored form: %w", err)
	}
	if len(b) > MaxSendBytes {
		return fmt.Errorf("send of %d bytes: at most %d (MaxSendBytes)", len(b), MaxSendBytes)
	}
	return nil
}

// onlyText is what Contents would say at some length of nearly every send.
func (s *Send) onlyText() bool {
	return len(s.Buttons) == 0 && s.List == nil && s.Flow == nil && !s.AskLocation && s.Media == nil && len(s.Cards) == 0 &&
		s.Location == nil && s.Template == nil && s.Reaction == nil && s.Signal == nil
}

func (s *Send) checkParts(content string) error {
	return cmp.Or(s.checkReplies(), s.checkIDs(), s.checkAround(content), s.checkContent())
}

// checkIDs bounds what is Meta's own, and the lines around a text.
func (s *Send) checkIDs() error {
	p := s.Private
	if p == nil {
		p = &PrivateReply{}
	}
	for _, part := range [...]string{s.Header, s.Footer, s.ReplyTo, p.Comment, p.Post} {
		if len(part) > MaxLineBytes {
			return fmt.Errorf("header, footer or id of %d bytes: at most %d (MaxLineBytes)", len(part), MaxLineBytes)
		}
	}
	if s.Private != nil && (p.Comment == "") == (p.Post == "") {
		return errors.New("private reply: want a comment or a post")
	}
	return nil
}

func wantsWords(content string) bool {
	switch content {
	case "buttons", "list", "flow", "ask_location":
		return true
	}
	return false
}

func (s *Send) checkReplies() error {
	if len(s.QuickReplies) > MaxQuickReplies {
		return fmt.Errorf("%d quick replies: at most %d (MaxQuickReplies)", len(s.QuickReplies), MaxQuickReplies)
	}
	for _, q := range s.QuickReplies {
		if err := checkChoice("quick reply", q.Title, q.Payload); err != nil {
			return err
		}
	}
	return nil
}

// checkChoice holds the title and the payload of something that can be chosen
// to their limits.
func checkChoice(what, title, payload string) error {
	if len(title) == 0 || len(title) > MaxNameBytes {
		return fmt.Errorf("%s title of %d bytes: 1 to %d (MaxNameBytes)", what, len(title), MaxNameBytes)
	}
	if len(payload) > MaxPayloadBytes {
		return fmt.Errorf("%s payload of %d bytes: at most %d (MaxPayloadBytes)", what, len(payload), MaxPayloadBytes)
	}
	return nil
}

// checkAround sees that what goes with a content goes with this one.
func (s *Send) checkAround(content string) error {
	replies := len(s.QuickReplies) > 0
	switch content {
	case "text", "media", "cards":
	default:
		if replies {
			return fmt.Errorf("quick replies with %s: they go with text, media and cards", content)
		}
	}
	lines := s.Header != "" || s.Footer != ""
	switch content {
	case "buttons", "list", "flow":
	case "text":
		if lines && !replies {
			return errors.New("header or footer with nothing to choose")
		}
	default:
		if lines {
			return fmt.Errorf("header or footer with %s", content)
		}
	}
	if lone := content == "reaction" || content == "signal"; lone && (s.ReplyTo != "" || s.Private != nil) {
		return fmt.Errorf("%s as a reply", content)
	}
	return nil
}

func (s *Send) checkContent() error {
	switch {
	case len(s.Buttons) > 0:
		return checkButtons(s.Buttons)
	case s.List != nil:
		return s.List.validate()
	case s.Flow != nil:
		if f := s.Flow; f.ID == "" || f.Button == "" || f.Token == "" {
			return errors.New("flow: want an id, a token and a button")
		} else if f.Screen == "" && len(f.Data) > 0 {
			return errors.New("flow: data without a screen")
		}
	case s.Media != nil:
		return s.Media.validate()
	case len(s.Cards) > 0:
		return checkCards(s.Cards)
	case s.Location != nil:
		return s.Location.validate()
	case s.Template != nil:
		return s.Template.validate()
	case s.Reaction != nil:
		return s.Reaction.validate()
	case s.Signal != nil:
		return s.Signal.validate()
	}
	return nil
}

func checkButtons(buttons []Button) error {
	if len(buttons) > MaxButtons {
		return fmt.Errorf("%d buttons: at most %d (MaxButtons)", len(buttons), MaxButtons)
	}
	for _, b := range buttons {
		if err := checkChoice("button", b.Title, b.Payload); err != nil {
			return err
		}
		if b.URL != "" && b.Payload != "" {
			return errors.New("button with a URL and a payload: want one of them")
		}
	}
	return nil
}

func (l *List) validate() error {
	rows := 0
	for _, s := range l.Sections {
		if s.Title == "" && len(l.Sections) > 1 {
			return errors.New("section without a title, in a list of several")
		}
		if len(s.Rows) == 0 {
			return errors.New("section without rows")
		}
		rows += len(s.Rows)
		for _, r := range s.Rows {
			if err := checkChoice("list row", r.Title, r.Payload); err != nil {
				return err
			}
		}
	}
	if rows == 0 || rows > MaxListRows {
		return fmt.Errorf("list of %d rows: 1 to %d (MaxListRows)", rows, MaxListRows)
	}
	return nil
}

func (m *Media) validate() error {
	switch {
	case !m.Kind.Valid():
		return fmt.Errorf("media of kind %q: want image, audio, video, document or sticker", m.Kind)
	case (m.URL == "") == (m.ID == ""):
		return errors.New("media: want a URL or an id")
	case len(m.Caption) > MaxTextBytes:
		return fmt.Errorf("caption of %d bytes: at most %d (MaxTextBytes)", len(m.Caption), MaxTextBytes)
	case m.Name != "" && m.Kind != Document:
		return fmt.Errorf("%s with a name: only documents have one", m.Kind)
	case m.Caption != "" && (m.Kind == Audio || m.Kind == Sticker):
		return fmt.Errorf("%s with a caption: no platform shows it", m.Kind)
	}
	return nil
}

func checkCards(cards []Card) error {
	if len(cards) > MaxCards {
		return fmt.Errorf("%d cards: at most %d (MaxCards)", len(cards), MaxCards)
	}
	for _, c := range cards {
		if c.Title == "" {
			return errors.New("card without a title")
		}
		if c.Subtitle == "" && c.ImageURL == "" && len(c.Buttons) == 0 {
			return errors.New("card with nothing but a title")
		}
		if err := checkButtons(c.Buttons); err != nil {
			return err
		}
	}
	return nil
}

func (l *Location) validate() error {
	// Written so that what is not a number fails.
	if within := l.Latitude >= -90 && l.Latitude <= 90 && l.Longitude >= -180 && l.Longitude <= 180; !within {
		return errors.New("location: latitude or longitude out of range")
	}
	return nil
}

func (t *Template) validate() error {
	switch {
	case t.Name == "" || t.Language == "":
		return errors.New("template: want a name and a language")
	case !t.Category.Valid():
		return fmt.Errorf("template of category %q: want marketing, utility or authentication", t.Category)
	}
	for _, c := range t.Components {
		if err := c.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Component) validate() error {
	if len(c.Raw) > 0 {
		if c.Type != "" || c.SubType != "" || c.Index != 0 || len(c.Parameters) > 0 {
			return errors.New("template component that is raw has other fields")
		}
		return nil
	}
	if c.Type == "" || c.Index < 0 {
		return errors.New("template component: want a type, and an index from 0")
	}
	for _, p := range c.Parameters {
		if err := p.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parameter) validate() error {
	values := 0
	for _, set := range [...]bool{p.Text != "", p.Payload != "", p.Code != "", p.Media != nil, p.Location != nil} {
		if set {
			values++
		}
	}
	switch {
	case values != 1:
		return fmt.Errorf("template parameter with %d values: want one", values)
	case p.Media != nil:
		return p.Media.validate()
	case p.Location != nil:
		return p.Location.validate()
	}
	return nil
}

// validate holds a reaction that is to be sent: that of an input may lack more.
func (r *Reaction) validate() error {
	switch {
	case r.MessageID == "":
		return errors.New("reaction: want the id of a message")
	case r.Removed == (r.Emoji != "" || r.Name != ""):
		return errors.New("reaction: want an emoji or a name, or none if it is removed")
	}
	return nil
}
