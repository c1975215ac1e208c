package flow

import (
	"cmp"
	"errors"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parleychat/parley"
)

// Answer is what the contact said to a question.
type Answer struct {
	Text    string // what they wrote, or the title of what they chose
	Payload string // of what they chose
	Input   parley.Input
	Now     time.Time

	words *words
}

// Kind is what a field asks for, and how it is read.
type Kind[T any] struct {
	// Parse reads an answer. An error made with Retry is told to the contact; after
	// any other they hear Phrases.Again.
	Parse func(a Answer) (T, error)
	// Options are offered with the question.
	Options []Option
	// Within says that Parse finds its value inside of a longer text, and leaves the
	// rest of it to other fields: see Field.Anytime.
	Within bool
	// Place lets WhatsApp show a button by which the contact shares where they are.
	Place bool

	yesNo bool // offers Phrases.Confirm and Phrases.Deny
}

// Retry is what Parse and checks return to tell the contact what is wrong with their
// answer. The text may be a key of the catalogue.
func Retry(text string, args ...Args) error { return &retryError{text, args} }

type retryError struct {
	text string
	args []Args
}

func (e *retryError) Error() string { return "answer refused: " + e.text }

// errUnread is an answer that says nothing to the question.
var errUnread = errors.New("answer not understood")

// Read makes a Kind of a function that reads texts.
func Read[T any](parse func(text string) (T, error)) Kind[T] {
	return Kind[T]{Parse: func(a Answer) (T, error) {
		if a.Text == "" {
			return *new(T), errUnread
		}
		return parse(a.Text)
	}}
}

// Line is a text of one line or more, of at most so many characters: a name, an
// address. What was pressed isn't one.
func Line(characters int) Kind[string] {
	return Kind[string]{Parse: func(a Answer) (string, error) {
		text := strings.TrimSpace(a.Text)
		visible := func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) }
		switch {
		case a.Payload != "", !strings.ContainsFunc(text, visible), !utf8.ValidString(text):
			return "", errUnread
		case utf8.RuneCountInString(text) > characters:
			return "", Retry("That is too long: at most {n} characters, please.", Args{"n": characters})
		}
		return text, nil
	}}
}

// Number is a whole number between two, written in digits. The text may have words
// around it ("4 people"), but no second number.
func Number(least, most int) Kind[int] {
	wrong := Retry("Please send a number from {least} to {most}.", Args{"least": least, "most": most})
	return Kind[int]{Parse: func(a Answer) (int, error) {
		token := ""
		for field := range strings.FieldsSeq(a.Text) {
			field = strings.TrimRight(field, ".,;:!?")
			if !strings.ContainsFunc(field, unicode.IsDigit) {
				continue
			}
			if token != "" {
				return 0, wrong
			}
			token = field
		}
		n, err := strconv.Atoi(token)
		if err != nil || n < least || n > most {
			return 0, wrong
		}
		return n, nil
	}}
}

// OneOf is one of these titles, offered with the question. It is found inside of a
// longer text ("a large one, please"), if no other of them is.
func OneOf(titles ...string) Kind[string] { return Choice(Titles(titles...)...) }

// Choice is the payload of one of these options. They are found as OneOf says.
func Choice(options ...Option) Kind[string] {
	if err := checkOptions(options); err != nil {
		panic("flow: " + err.Error())
	}
	return Kind[string]{Options: options, Within: true, Parse: func(a Answer) (string, error) { return pick(options, a) }}
}

// pick finds the one option that an answer means.
func pick(options []Option, a Answer) (string, error) {
	said := Fold(a.Text)
	if a.Payload != "" {
		for _, o := range options {
			if o.payload() == a.Payload {
				return a.Payload, nil
			}
		}
		said = Fold(a.Payload)
	}
	var found []Option
	for _, o := range options {
		title := Fold(o.Title)
		if title == said {
			return o.payload(), nil
		}
		if contains(said, title) {
			found = append(found, o)
		}
	}
	found = longest(found)
	if len(found) != 1 {
		return "", errUnread
	}
	return found[0].payload(), nil
}

// longest leaves out options whose title is only a part of another's that was found:
// "large" of "extra large".
func longest(found []Option) []Option {
	var out []Option
	for _, o := range found {
		part := func(p Option) bool {
			return len(Fold(p.Title)) > len(Fold(o.Title)) && contains(Fold(p.Title), Fold(o.Title))
		}
		if !slices.ContainsFunc(found, part) {
			out = append(out, o)
		}
	}
	return out
}

// YesNo is true for one of Phrases.Yes, and false for one of Phrases.No.
func YesNo() Kind[bool] {
	return Kind[bool]{yesNo: true, Parse: func(a Answer) (bool, error) {
		said := Fold(cmp.Or(a.Payload, a.Text))
		yes, no := says(said, a.words.yes), says(said, a.words.no)
		if yes == no {
			return false, errUnread
		}
		return yes, nil
	}}
}

// Email is an address of the form name@example.com; whether anybody reads it nobody
// knows.
func Email() Kind[string] {
	const most = 254 // RFC 5321, less the brackets of a path
	wrong := Retry("Please send an e-mail address, like name@example.com.")
	return Kind[string]{Parse: func(a Answer) (string, error) {
		text := strings.TrimSpace(a.Text)
		address, err := mail.ParseAddress(text)
		if err != nil || address.Address != text || len(text) > most || a.Payload != "" {
			return "", wrong
		}
		domain := text[strings.LastIndexByte(text, '@')+1:]
		if !strings.Contains(strings.Trim(domain, "."), ".") || strings.ContainsAny(text, `"[] `) {
			return "", wrong
		}
		return text, nil
	}}
}

// Phone is a telephone number, of which the digits and a plus sign before them are
// kept.
func Phone() Kind[string] {
	const least, most = 6, 15 // E.164 allows 15 digits
	wrong := Retry("Please send a telephone number, like +49 151 2345678.")
	return Kind[string]{Parse: func(a Answer) (string, error) {
		text := strings.TrimSpace(a.Text)
		number, digits := strings.Builder{}, 0
		for i, r := range text {
			switch {
			case r >= '0' && r <= '9':
				digits++
				number.WriteRune(r)
			case r == '+' && i == 0:
				number.WriteRune(r)
			case strings.ContainsRune(" -./()", r) && i > 0 || r == '(':
			default:
				return "", wrong
			}
		}
		if digits < least || digits > most || a.Payload != "" {
			return "", wrong
		}
		return number.String(), nil
	}}
}

// File is an attachment of one of these kinds, or of any: its id or its URL.
func File(kinds ...parley.MediaKind) Kind[string] {
	return Kind[string]{Parse: func(a Answer) (string, error) {
		id, ok := attachment(a.Input, kinds)
		if !ok || id == "" {
			return "", errUnread
		}
		return id, nil
	}}
}

// Place is a location that the contact shares.
func Place() Kind[parley.Location] {
	return Kind[parley.Location]{Place: true, Parse: func(a Answer) (parley.Location, error) {
		m, ok := a.Input.(parley.Message)
		if !ok || m.Location == nil {
			return parley.Location{}, errUnread
		}
		return *m.Location, nil
	}}
}
