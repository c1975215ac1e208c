package flow

import (
	"regexp"
	"slices"
	"strings"

	"github.com/parleychat/parley"
)

// Rule is a handler and when it is for.
type Rule[S any] struct {
	matcher Matcher
	handle  Handler[S]
	always  bool
}

// On makes a rule. It panics without a matcher or a handler: rules are made when a
// program starts.
func On[S any](m Matcher, h Handler[S]) Rule[S] {
	if m.match == nil || h == nil {
		panic("flow: On without a matcher or a handler")
	}
	return Rule[S]{matcher: m, handle: h}
}

// Always is the rule as one that, among a flow's Commands, is also tried while somebody
// else has the word. What it says is not sent unless it takes the word back first, by
// Turn.Resume.
func (r Rule[S]) Always() Rule[S] {
	r.always = true
	return r
}

// Match makes a handler of rules: the first that matches and doesn't pass handles the
// input. It passes if none does.
func Match[S any](rules ...Rule[S]) Handler[S] {
	for i := range rules {
		if rules[i].handle == nil {
			panic("flow: Match of a rule that On did not make")
		}
	}
	return func(t *Turn[S]) error { return t.rules(rules) }
}

// Reply makes a handler that says a text; a key of the catalogue is translated.
func Reply[S any](text string) Handler[S] {
	return func(t *Turn[S]) error {
		t.Say(t.translated(text))
		return nil
	}
}

// Matcher says whether an input is of its sort.
type Matcher struct {
	match func(in *heard) (found []string, ok bool)
}

// heard is an input with what rules ask of it.
type heard struct {
	parley.Input

	text, payload string
	contact       bool // the contact wrote or pressed something
	folded        string
	isFolded      bool
}

func hear(in parley.Input) heard {
	h := heard{Input: in}
	switch in := in.(type) {
	case parley.Message:
		h.text, h.payload, h.contact = in.Text, in.Payload, true
	case parley.Postback:
		h.text, h.payload, h.contact = in.Title, in.Payload, true
	default: // nothing that was said
	}
	return h
}

// fold is the text as Fold makes it, which is made once.
func (h *heard) fold() string {
	if !h.isFolded {
		h.folded, h.isFolded = Fold(h.text), true
	}
	return h.folded
}

// one is what is found by a matcher that finds one thing.
func one(ok bool, found string) ([]string, bool) {
	if !ok {
		return nil, false // most rules don't match: that costs nothing
	}
	return []string{found}, true
}

// Text matches a message that says one of these phrases and nothing else, or a button
// of that title. Case, diacritics, punctuation and the number of spaces don't matter:
// "¡Adiós!" is "adios". It finds the phrase as it was said.
func Text(phrases ...string) Matcher {
	folded := foldAll("Text", phrases)
	return Matcher{func(in *heard) ([]string, bool) {
		return one(in.text != "" && slices.Contains(folded, in.fold()), in.text)
	}}
}

// Says matches a message, or the title of a button, that has one of these words or
// phrases in it, compared as Text does, at the borders of words: Says("art") is not in
// "start". It finds the phrase, folded.
func Says(phrases ...string) Matcher {
	folded := foldAll("Says", phrases)
	return Matcher{func(in *heard) ([]string, bool) {
		if in.text == "" {
			return nil, false
		}
		for _, phrase := range folded {
			if contains(in.fold(), phrase) {
				return []string{phrase}, true
			}
		}
		return nil, false
	}}
}

// contains reports whether a folded text has a folded phrase in it, word by word.
func contains(text, phrase string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], phrase)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(phrase)
		if (i == 0 || text[i-1] == ' ') && (end == len(text) || text[end] == ' ') {
			return true
		}
		at = i + 1
	}
}

func foldAll(what string, phrases []string) []string {
	folded := make([]string, 0, len(phrases))
	for _, p := range phrases {
		f := Fold(p)
		if f == "" {
			panic("flow: " + what + " of an empty phrase")
		}
		folded = append(folded, f)
	}
	return folded
}

// Regexp matches a message whose text, or a button whose title, matches the expression,
// as they are: write "(?i)" to leave case aside. It finds what the expression's groups
// do. It panics as regexp.MustCompile does.
func Regexp(expression string) Matcher {
	re := regexp.MustCompile(expression)
	return Matcher{func(in *heard) ([]string, bool) {
		if in.text == "" {
			return nil, false
		}
		found := re.FindStringSubmatch(in.text)
		return found, found != nil
	}}
}

// Payload matches what was chosen or pressed, by its payload.
func Payload(payloads ...string) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		return one(in.payload != "" && slices.Contains(payloads, in.payload), in.payload)
	}}
}

// PayloadPrefix matches what was chosen or pressed, by the beginning of its payload. It
// finds, as 1, what follows.
func PayloadPrefix(prefix string) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		if in.payload == "" || !strings.HasPrefix(in.payload, prefix) {
			return nil, false
		}
		return []string{in.payload, in.payload[len(prefix):]}, true
	}}
}

// Media matches a message with an attachment of one of these kinds, or of any if none
// is named. It finds the id or the URL of the first.
func Media(kinds ...parley.MediaKind) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		a, ok := attachment(in.Input, kinds)
		return one(ok, a)
	}}
}

// attachment is the id or the URL of the first attachment of one of these kinds.
func attachment(in parley.Input, kinds []parley.MediaKind) (string, bool) {
	m, ok := in.(parley.Message)
	if !ok {
		return "", false
	}
	for _, a := range m.Attachments {
		kind := parley.MediaKind(a.Type)
		if kind == "file" { // Messenger's word
			kind = parley.Document
		}
		if len(kinds) > 0 && !slices.Contains(kinds, kind) {
			continue
		}
		if a.ID != "" {
			return a.ID, true
		}
		return a.URL, true
	}
	return "", false
}

// Location matches a message with a place.
func Location() Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		m, ok := in.Input.(parley.Message)
		return nil, ok && m.Location != nil
	}}
}

// Reaction matches a reaction with one of these emojis, or with any if none is named,
// but not its removal. It finds the emoji, and as 1 the id of the message.
func Reaction(emojis ...string) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		r, ok := in.Input.(parley.Reaction)
		if !ok || r.Removed || len(emojis) > 0 && !slices.Contains(emojis, r.Emoji) {
			return nil, false
		}
		return []string{r.Emoji, r.MessageID}, true
	}}
}

// Referral matches an input that tells by which link or ad the contact came, if its ref
// is one of these, or any if none is named. It finds the ref.
func Referral(refs ...string) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		r := referral(in.Input)
		if r == nil || len(refs) > 0 && !slices.Contains(refs, r.Ref) {
			return nil, false
		}
		return []string{r.Ref}, true
	}}
}

func referral(in parley.Input) *parley.Referral {
	switch in := in.(type) {
	case parley.Message:
		return in.Referral
	case parley.Postback:
		return in.Referral
	case parley.Referred:
		return &in.Referral
	default:
		return nil
	}
}

// Timer matches the timer of that name when it fires, and a follow-up of that name that
// could not be sent.
func Timer(name string) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		t, ok := in.Input.(parley.TimerFired)
		return one(ok && (t.Name == name || t.Name == followTimer+name), name)
	}}
}

// Answered matches what came of the call of that name, whether it was answered or not;
// see OnAnswer.
func Answered(call string) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		c, ok := in.Input.(parley.Called)
		return one(ok && c.Name == call, call)
	}}
}

// PersonSpoke matches a message that somebody other than the bot sent to the contact:
// a colleague in an inbox or on the phone, another app. It finds what they wrote.
func PersonSpoke() Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		e, ok := in.Input.(parley.Echo)
		return one(ok, e.Text)
	}}
}

// Returned matches the end of a hand-off by its time: the bot has the word again.
func Returned() Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		_, ok := in.Input.(parley.SpeakerReturned)
		return nil, ok
	}}
}

// Failed matches a message of the bot that was not delivered. It finds why, if that is
// one of the failures that parley has a word for.
func Failed() Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		f, ok := in.Input.(parley.SendFailed)
		return one(ok, string(f.Why))
	}}
}

// Spoke matches whatever the contact writes or presses.
func Spoke() Matcher {
	return Matcher{func(in *heard) ([]string, bool) { return one(in.contact, in.text) }}
}

// When matches by a function of the developer's own, which must be pure.
func When(f func(in parley.Input) bool) Matcher {
	return Matcher{func(in *heard) ([]string, bool) { return nil, f(in.Input) }}
}

// Any matches what one of the matchers does, and finds what that one does.
func Any(matchers ...Matcher) Matcher {
	return Matcher{func(in *heard) ([]string, bool) {
		for _, m := range matchers {
			if found, ok := m.match(in); ok {
				return found, true
			}
		}
		return nil, false
	}}
}
