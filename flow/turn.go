package flow

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// errPass says that a handler leaves the input to the next.
var errPass = errors.New("passed")

// Turn is one input being handled. What parley.Turn offers is here, too: the time, the
// contact's attributes and tags, hand-offs, effects of every sort.
type Turn[S any] struct {
	*parley.Turn
	// State is what is remembered of the conversation. Change it: it is stored when
	// the handler returns nil.
	State *S

	program  *program[S]
	behavior Behavior[S]
	progress progress
	input    heard
	parts    []parley.Input // that were met as one
	found    []string       // by the rule that matched
	chosen   bool           // the input is one of the options that were offered last
	became   *string        // the behaviour of the next inputs
	fills    int            // forms that were begun
	ended    bool
	fault    error // the first mistake of the turn
}

// Input is what happened. If the contact chose an option by its title or its number it
// is a message with the option's payload; if several inputs were met as one it is a
// message with all that they said, see Parts.
func (t *Turn[S]) Input() parley.Input { return t.input.Input }

// Parts are the inputs that are met as one in this turn, oldest first, by a policy or
// because they waited for an answer. Usually it is the one.
func (t *Turn[S]) Parts() []parley.Input {
	if t.parts == nil {
		return []parley.Input{t.input.Input}
	}
	return t.parts
}

// Said is the text of the message, or the title of the button; else it is empty.
func (t *Turn[S]) Said() string { return t.input.text }

// Chosen is the payload of what the contact chose or pressed; empty if they didn't.
func (t *Turn[S]) Chosen() string { return t.input.payload }

// Found is what the matcher of the rule found: 0 is the whole of it, the rest are what
// the matcher says. Empty if there is none of that number.
func (t *Turn[S]) Found(i int) string {
	if i < 0 || i >= len(t.found) {
		return ""
	}
	return t.found[i]
}

// Pass leaves the input to the next handler: return t.Pass(). What this one wanted
// until then stays wanted.
func (t *Turn[S]) Pass() error { return errPass }

// Say sends a text. One that is longer than the platform takes is sent as several
// messages.
func (t *Turn[S]) Say(text string) {
	t.Do(parley.Send{Text: last(text, textLimit(t.Conversation().Channel.Kind), t.Do)})
}

// Sayf sends a text made as fmt.Sprintf does it.
func (t *Turn[S]) Sayf(format string, args ...any) { t.Say(fmt.Sprintf(format, args...)) }

// Become lets the named behaviour of the flow receive the next inputs; the empty name
// is Start. A name that the flow doesn't have fails the turn.
func (t *Turn[S]) Become(name string) {
	if _, ok := t.program.flow.Named[name]; !ok && name != "" {
		t.fail("become %q: not a behaviour of this flow", name)
		return
	}
	t.became = &name
	t.Turn.Become(name)
}

// SetTimer sets the timer of that name to fire in d, where Timer(name) matches it.
func (t *Turn[S]) SetTimer(name string, d time.Duration) {
	if strings.HasPrefix(name, ownTimers) {
		t.fail("timer %q: names that begin with %q are the flow's own", name, ownTimers)
		return
	}
	t.Turn.SetTimer(name, d)
}

// End forgets the conversation: its state, the form, what waits, timers, follow-ups
// and calls. The next input begins anew.
func (t *Turn[S]) End() {
	t.Turn.End()
	t.ended, t.progress = true, progress{}
	*t.State = *new(S)
}

// Language is the language of the contact: the one of the flow's catalogue that their
// attribute "language" names, or the flow's own. A catalogue with "de" serves "de-AT".
func (t *Turn[S]) Language() string {
	return t.program.messages.choose(t.Attribute(LanguageAttribute))
}

// SetLanguage notes the contact's language.
func (t *Turn[S]) SetLanguage(language string) { t.SetAttribute(LanguageAttribute, language) }

// Text is the catalogue's text for a key, in the contact's language. A key that isn't
// in the catalogue, or a parameter that the text needs and args lacks, fails the turn.
func (t *Turn[S]) Text(key string, args ...Args) string {
	text, err := t.program.messages.text(t.Language(), key, args)
	if err != nil {
		t.fail("%v", err)
	}
	return text
}

// translated is a text that the developer gave, or what the catalogue has for it if it
// is a key.
func (t *Turn[S]) translated(text string, args ...Args) string {
	if _, ok := t.program.messages.texts[text]; !ok {
		return fill(text, args)
	}
	return t.Text(text, args...)
}

// fail notes the first mistake; the turn fails with it even if the handler goes on.
func (t *Turn[S]) fail(format string, args ...any) {
	if t.fault == nil {
		t.fault = fmt.Errorf(format, args...)
	}
}

// run offers the input to whoever it is for.
func (t *Turn[S]) run() error {
	t.hear(t.Turn.Input())
	if t.input.contact {
		t.dropSilent()
	}
	if _, ok := t.input.Input.(parley.Echo); ok {
		t.takenOver()
	}
	if t.Speaker() != parley.SpeakerBot {
		return t.listen()
	}
	switch in := t.input.Input.(type) {
	case parley.TimerFired:
		return t.fired(in)
	case parley.Called:
		return t.answered(in)
	case parley.Edited:
		if t.revise(in.ID, &in.Text) {
			return nil
		}
	case parley.Deleted:
		if t.revise(in.ID, nil) {
			return nil
		}
	default: // met as it is, or later
	}
	return t.meet()
}

// takenOver gives the word to the person who spoke, if the flow says so, and for no less
// than they have it already.
func (t *Turn[S]) takenOver() {
	d := t.program.flow.PersonTakesOver
	has, until := t.Speaker(), t.SpeakerUntil()
	if d > 0 && (has == parley.SpeakerBot || has == parley.SpeakerPerson && !until.IsZero() && until.Before(t.Now().Add(d))) {
		t.HandOff(parley.SpeakerPerson, d)
	}
}

// listen is a turn while somebody else has the word: the bot keeps its own, but for
// the rules that say they are for this.
func (t *Turn[S]) listen() error {
	switch in := t.input.Input.(type) {
	case parley.TimerFired:
		t.forget(in.Name)
	case parley.Called:
		if in.Name == t.progress.Until {
			t.drop()
		}
	default: // nothing of ours
	}
	for i := range t.program.flow.Commands {
		if r := &t.program.flow.Commands[i]; r.always && t.matches(r) {
			return r.handle(t)
		}
	}
	return nil
}

// meet handles the input, or lets it wait.
func (t *Turn[S]) meet() error {
	t.abandon()
	err := t.rules(t.program.flow.Commands)
	if !errors.Is(err, errPass) {
		return err
	}
	if t.wait() {
		return nil
	}
	return t.below()
}

// handle offers the input to all of the flow.
func (t *Turn[S]) handle() error {
	if err := t.rules(t.program.flow.Commands); !errors.Is(err, errPass) {
		return err
	}
	return t.below()
}

// below offers the input to what comes after the commands.
func (t *Turn[S]) below() error {
	if form := t.form(); form != nil {
		if err := form.take(t); !errors.Is(err, errPass) {
			return err
		}
	}
	if err := t.behavior.Handle(t); !errors.Is(err, errPass) {
		return err
	}
	if t.program.flow.Otherwise == nil || !t.input.contact {
		return nil
	}
	return t.program.flow.Otherwise(t)
}

// rules runs the first rule that matches and doesn't pass.
func (t *Turn[S]) rules(rules []Rule[S]) error {
	for i := range rules {
		if !t.matches(&rules[i]) {
			continue
		}
		if err := rules[i].handle(t); !errors.Is(err, errPass) {
			return err
		}
	}
	return errPass
}

func (t *Turn[S]) matches(r *Rule[S]) bool {
	found, ok := r.matcher.match(&t.input)
	if ok {
		t.found = found
	}
	return ok
}

// hear takes in an input, and resolves what was chosen.
func (t *Turn[S]) hear(in parley.Input) {
	t.input, t.chosen = hear(in), false
	if !t.input.contact || t.progress.Offered == "" {
		return
	}
	payload, ok := choose(t.progress.Offered, t.progress.Number, &t.input)
	if !ok {
		return
	}
	t.chosen, t.input.payload = true, payload
	switch in := in.(type) {
	case parley.Message:
		in.Payload = t.input.payload
		t.input.Input = in
	case parley.Postback:
		in.Payload = t.input.payload
		t.input.Input = in
	default: // nothing else is chosen
	}
}
