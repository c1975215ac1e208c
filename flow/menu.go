package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parleychat/parley"
)

// Option is something to choose. The title is for people, the payload for the bot: it
// is what Turn.Chosen and Payload see, however the contact chose it.
type Option struct {
	Title       string
	Payload     string // the title, if empty
	Description string // a line about it
}

func (o Option) payload() string { return cmp.Or(o.Payload, o.Title) }

// Titles are options that are their titles.
func Titles(titles ...string) []Option {
	options := make([]Option, 0, len(titles))
	for _, title := range titles {
		options = append(options, Option{Title: title})
	}
	return options
}

// Offer asks something that has options: as quick replies, buttons or a list, whatever
// the platform has room for, or else as numbered lines. The contact may press one, or
// write its title, or its number if it was shown one; until something else is asked or the conversation
// ends, either of them is met as a message with the option's payload.
func (t *Turn[S]) Offer(text string, options ...Option) {
	if err := checkOptions(options); err != nil {
		t.fail("offer: %w", err)
		return
	}
	p := &t.program.phrases
	m := menu{text: text, options: options, label: t.translated(p.Choose), hint: t.translated(p.Number)}
	for _, s := range m.render(t.Conversation().Channel.Kind) {
		t.Do(s)
	}
	t.progress.Number = m.numbered
	t.progress.Offered = make([]offered, 0, len(options))
	for _, o := range options {
		kept := offered{Title: o.Title, Payload: o.Payload}
		if kept.Payload == kept.Title {
			kept.Payload = ""
		}
		t.progress.Offered = append(t.progress.Offered, kept)
	}
}

func checkOptions(options []Option) error {
	if len(options) == 0 || len(options) > MaxOptions {
		return fmt.Errorf("%d options: 1 to %d (MaxOptions)", len(options), MaxOptions)
	}
	for _, o := range options {
		switch {
		case Fold(o.Title) == "" || len(o.Title) > MaxTitleBytes:
			return fmt.Errorf("option with a title of %d bytes: 1 to %d (MaxTitleBytes)", len(o.Title), MaxTitleBytes)
		case len(o.Description) > MaxTitleBytes:
			return fmt.Errorf("option with a description of %d bytes: at most %d (MaxTitleBytes)", len(o.Description), MaxTitleBytes)
		case utf8.RuneCountInString(o.payload()) > MaxPayloadCharacters:
			return fmt.Errorf("option with a payload of %d characters: at most %d (MaxPayloadCharacters)", utf8.RuneCountInString(o.payload()), MaxPayloadCharacters)
		}
	}
	return nil
}

// offered is an option that the contact was shown.
type offered struct {
	Title   string `json:"t"`
	Payload string `json:"p,omitempty"` // none: the title
}

// choose finds the option that an input means: by its payload, its title, or the number
// that it was shown with; where none was, "3" may be an answer, but is no choice. A title that two have in common is none, so that nobody gets what they did
// not choose.
func choose(options []offered, numbered bool, in *heard) (offered, bool) {
	said := in.fold()
	if in.payload != "" {
		said = Fold(in.payload)
		byPayload := func(o offered) bool { return cmp.Or(o.Payload, o.Title) == in.payload }
		if i := slices.IndexFunc(options, byPayload); i >= 0 {
			return options[i], true
		}
	}
	found, n := 0, 0
	for i, o := range options {
		if Fold(o.Title) == said {
			found, n = i, n+1
		}
	}
	switch {
	case n == 1:
		return options[found], true
	case n > 1 || in.payload != "" || !numbered:
		return offered{}, false
	}
	if i, err := strconv.Atoi(said); err == nil && i >= 1 && i <= len(options) {
		return options[i-1], true
	}
	return offered{}, false
}

// menu is what is offered.
type menu struct {
	text    string
	options []Option
	label   string // on the button that opens a list
	hint    string // below numbered lines

	numbered bool // it was rendered with numbers
}

// render is the menu as messages that the platform takes.
func (m *menu) render(kind parley.ChannelKind) []parley.Send {
	switch {
	case m.twins():
	case kind == parley.Messenger || kind == parley.Instagram:
		if len(m.options) <= messengerReplies && m.titlesWithin(messengerTitle) {
			return m.replies(m.described(), textLimit(kind))
		}
	case kind == parley.WhatsApp:
		plain := !slices.ContainsFunc(m.options, func(o Option) bool { return o.Description != "" })
		if plain && len(m.options) <= whatsAppButtons && m.titlesWithin(whatsAppButton) {
			return m.replies(m.text, limit{runes: whatsAppBody})
		}
		if len(m.options) <= whatsAppRows && m.titlesWithin(whatsAppRow) && m.detailsWithin(whatsAppDetail) {
			return m.list()
		}
	}
	return m.lines(textLimit(kind))
}

// twins reports whether two options look or answer alike. Platforms refuse that; a
// number tells them apart.
func (m *menu) twins() bool {
	for i, o := range m.options {
		alike := func(p Option) bool { return Fold(p.Title) == Fold(o.Title) || p.payload() == o.payload() }
		if slices.ContainsFunc(m.options[:i], alike) {
			return true
		}
	}
	return false
}

func (m *menu) titlesWithin(runes int) bool {
	return !slices.ContainsFunc(m.options, func(o Option) bool { return utf8.RuneCountInString(o.Title) > runes })
}

func (m *menu) detailsWithin(runes int) bool {
	return !slices.ContainsFunc(m.options, func(o Option) bool { return utf8.RuneCountInString(o.Description) > runes })
}

// described is the text with the descriptions, for which quick replies have no room.
func (m *menu) described() string {
	var b strings.Builder
	b.WriteString(m.text)
	for _, o := range m.options {
		if o.Description != "" {
			b.WriteString("\n• " + o.Title + ": " + o.Description)
		}
	}
	return b.String()
}

// replies is the menu as quick replies below the last part of the text.
func (m *menu) replies(text string, l limit) []parley.Send {
	sends := texts(split(text, l))
	last := &sends[len(sends)-1]
	for _, o := range m.options {
		last.QuickReplies = append(last.QuickReplies, parley.QuickReply{Title: o.Title, Payload: o.payload()})
	}
	return sends
}

func (m *menu) list() []parley.Send {
	sends := texts(split(m.text, textLimit(parley.WhatsApp)))
	rows := make([]parley.ListRow, 0, len(m.options))
	for _, o := range m.options {
		rows = append(rows, parley.ListRow{Title: o.Title, Description: o.Description, Payload: o.payload()})
	}
	list := &parley.List{Sections: []parley.ListSection{{Rows: rows}}}
	if utf8.RuneCountInString(m.label) <= whatsAppLabel {
		list.Button = m.label
	}
	sends[len(sends)-1].List = list
	return sends
}

// lines is the menu as text.
func (m *menu) lines(l limit) []parley.Send {
	m.numbered = true
	var b strings.Builder
	b.WriteString(m.text)
	for i, o := range m.options {
		fmt.Fprintf(&b, "\n%d. %s", i+1, o.Title)
		if o.Description != "" {
			b.WriteString(": " + o.Description)
		}
	}
	if m.hint != "" {
		b.WriteString("\n" + m.hint)
	}
	return texts(split(b.String(), l))
}

// texts are messages of these texts; of none, an empty one, which is refused and named.
func texts(parts []string) []parley.Send {
	if len(parts) == 0 {
		parts = []string{""}
	}
	sends := make([]parley.Send, 0, len(parts))
	for _, part := range parts {
		sends = append(sends, parley.Send{Text: part})
	}
	return sends
}
