package flow

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
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
	t.offer(text, options, offered(options))
}

// offer offers options that were checked, and remembers them as offered has them.
func (t *Turn[S]) offer(text string, options []Option, remember string) {
	p := &t.program.phrases
	m := menu{text: text, options: options, label: t.translated(p.Choose), hint: t.translated(p.Number)}
	m.render(t.Conversation().Channel.Kind, t.Do)
	t.progress.Number, t.progress.Offered = m.numbered, remember
}

func checkOptions(options []Option) error {
	if len(options) == 0 || len(options) > MaxOptions {
		return fmt.Errorf("%d options: 1 to %d (MaxOptions)", len(options), MaxOptions)
	}
	for i := range options {
		o := &options[i]
		switch {
		case hasControl(o.Title), hasControl(o.Payload):
			return errors.New("option with a control character in its title or payload")
		case strings.TrimSpace(o.Title) == "" || len(o.Title) > MaxTitleBytes:
			return fmt.Errorf("option with a title of %d bytes: 1 to %d (MaxTitleBytes)", len(o.Title), MaxTitleBytes)
		case len(o.Description) > MaxTitleBytes:
			return fmt.Errorf("option with a description of %d bytes: at most %d (MaxTitleBytes)", len(o.Description), MaxTitleBytes)
		case utf8.RuneCountInString(o.payload()) > MaxPayloadCharacters:
			return fmt.Errorf("option with a payload of %d characters: at most %d (MaxPayloadCharacters)", utf8.RuneCountInString(o.payload()), MaxPayloadCharacters)
		}
	}
	return nil
}

// hasControl reports whether there is a control character in a text.
func hasControl(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}

// offered is the stored form of what the contact was shown: a line for each option, its
// title and, if it has one of its own, its payload behind a tab. One string is read and
// written with each turn at a fraction of what a list of objects costs.
func offered(options []Option) string {
	size := 0
	for i := range options {
		size += len(options[i].Title) + len(options[i].Payload) + len("\t\n")
	}
	var b strings.Builder
	b.Grow(size)
	for i := range options {
		o := &options[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(o.Title)
		if o.payload() != o.Title {
			b.WriteByte('\t')
			b.WriteString(o.payload())
		}
	}
	return b.String()
}

// choose finds the payload of the option that an input means: by its payload, its title,
// or the number that it was shown with; where none was, "3" may be an answer, but is no
// choice. A title that two have in common is none, so that nobody gets what they did not
// choose.
func choose(shown string, numbered bool, in *heard) (payload string, ok bool) {
	said := in.fold()
	if in.payload != "" {
		said = Fold(in.payload)
	}
	number := 0
	if numbered && in.payload == "" {
		number, _ = strconv.Atoi(said) // 0, of what is none, is no option's
	}
	var room [64]byte
	byTitle, twins, byNumber := "", 0, ""
	for n, rest, more := 1, shown, true; more; n++ {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		title, own, has := strings.Cut(line, "\t")
		if !has {
			own = title
		}
		if n == number {
			byNumber = own
		}
		if in.payload != "" && own == in.payload {
			return own, true
		}
		// Folding makes no text longer than three times.
		if len(said) <= 3*len(title) && !unlike(title, said) && string(appendFold(room[:0], title)) == said {
			byTitle, twins = own, twins+1
		}
	}
	switch twins {
	case 0:
		return byNumber, byNumber != ""
	case 1:
		return byTitle, true
	}
	return "", false
}

// menu is what is offered.
type menu struct {
	text    string
	options []Option
	label   string // on the button that opens a list
	hint    string // below numbered lines

	numbered bool // it was rendered with numbers
}

// render sends the menu as messages that the platform takes.
func (m *menu) render(kind parley.ChannelKind, do func(parley.Effect)) {
	switch {
	case m.twins():
	case kind == parley.Messenger || kind == parley.Instagram:
		if len(m.options) <= messengerReplies && m.titlesWithin(messengerTitle) {
			do(m.replies(last(m.described(), textLimit(kind), do)))
			return
		}
	case kind == parley.WhatsApp:
		plain := !slices.ContainsFunc(m.options, func(o Option) bool { return o.Description != "" })
		if plain && len(m.options) <= whatsAppButtons && m.titlesWithin(whatsAppButton) {
			do(m.replies(last(m.text, limit{runes: whatsAppBody}, do)))
			return
		}
		if len(m.options) <= whatsAppRows && m.titlesWithin(whatsAppRow) && m.detailsWithin(whatsAppDetail) {
			do(m.list(last(m.text, textLimit(kind), do)))
			return
		}
	}
	do(parley.Send{Text: last(m.lines(), textLimit(kind), do)})
}

// last sends the parts of a text but for the last one, which it returns: what goes with
// a text goes with its end. Of an empty text it is that, which is refused and named.
func last(text string, l limit, do func(parley.Effect)) string {
	if text = strings.TrimSpace(text); l.fits(text) == len(text) {
		return text // as nearly all do
	}
	parts := split(text, l)
	if len(parts) == 0 {
		return ""
	}
	for _, part := range parts[:len(parts)-1] {
		do(parley.Send{Text: part})
	}
	return parts[len(parts)-1]
}

// twins reports whether two options look or answer alike. Platforms refuse that; a
// number tells them apart.
func (m *menu) twins() bool {
	alike := false
	for i := range m.options {
		for j := range m.options[:i] {
			if m.options[j].payload() == m.options[i].payload() {
				return true
			}
			alike = alike || !unlike(m.options[j].Title, m.options[i].Title)
		}
	}
	return alike && m.sameTitles()
}

// sameTitles reports whether two titles fold to the same.
func (m *menu) sameTitles() bool {
	var room [256]byte
	folded, ends := room[:0], [MaxOptions]int{} // all titles, and where each ends
	for i := range m.options {
		start, from := len(folded), 0
		folded = appendFold(folded, m.options[i].Title)
		ends[i] = len(folded)
		for j := range i {
			if bytes.Equal(folded[from:ends[j]], folded[start:]) {
				return true
			}
			from = ends[j]
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
	text := m.text
	for _, o := range m.options {
		if o.Description != "" {
			text += "\n• " + o.Title + ": " + o.Description //nolint:modernize // there are few, and usually none
		}
	}
	return text
}

// replies is the menu as quick replies below a text.
func (m *menu) replies(text string) parley.Send {
	replies := make([]parley.QuickReply, 0, len(m.options))
	for _, o := range m.options {
		replies = append(replies, parley.QuickReply{Title: o.Title, Payload: o.payload()})
	}
	return parley.Send{Text: text, QuickReplies: replies}
}

func (m *menu) list(text string) parley.Send {
	rows := make([]parley.ListRow, 0, len(m.options))
	for _, o := range m.options {
		rows = append(rows, parley.ListRow{Title: o.Title, Description: o.Description, Payload: o.payload()})
	}
	list := &parley.List{Sections: []parley.ListSection{{Rows: rows}}}
	if utf8.RuneCountInString(m.label) <= whatsAppLabel {
		list.Button = m.label
	}
	return parley.Send{Text: text, List: list}
}

// lines is the menu as text.
func (m *menu) lines() string {
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
	return b.String()
}
