package flow

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parleychat/parley"
)

// Form asks for several things, one after the other, until all are there. Turn.Fill
// begins it; from then on it takes what the contact says, after the flow's Commands:
//
//   - an answer to the question, or to any field that is Anytime;
//   - "back", to the question before; "change size", to that field; "skip", of a field
//     that is Optional; "cancel", out of the form (Phrases has the words).
//
// Anything else is answered by the question once more, and too many of those end the
// form. What isn't said by the contact, or comes from a button that the form has not
// shown, is left to the behaviour.
type Form[S any] struct {
	Name   string // stored
	Fields []Field[S]
	// Confirm, if set, says what was understood. The contact then says yes, or what to
	// change; without it the form is done with its last answer.
	Confirm func(t *Turn[S]) string
	// Done is called when all is there; the form is over by then.
	Done Handler[S]
	// Cancelled is called when the contact has left the form, and GaveUp when they
	// answered a question in vain too often. Without them one of the Phrases is said.
	// What was answered by then is still in the state.
	Cancelled Handler[S]
	GaveUp    Handler[S]
	// Attempts is how many answers in vain a question takes; 0: 3.
	Attempts int
	// Remind, if it has a text or a template, follows up on a question that isn't
	// answered; its name is the form's.
	Remind Follow
}

// maxFills is how many forms one turn may begin: a form that is done at once and begins
// itself would never end.
const maxFills = 8

// attempts is how many answers in vain a question takes unless the form says another
// number.
const attempts = 3

// filling is how far a form has come; with the empty name it is none.
type filling struct {
	Form  string   `json:"form"`
	Field string   `json:"field,omitempty"` // the one asked for; none: the confirmation
	Tries int      `json:"tries,omitempty"` // answers in vain
	Given []string `json:"given,omitempty"` // fields that were answered with the zero value, or skipped
}

// IsZero reports whether no form is being filled in; then encoding/json leaves it out.
func (f *filling) IsZero() bool { return f.Form == "" }

// Fill begins a form of the flow: it takes what the input already says to fields that
// are Anytime, and asks for what is missing. Fields whose place in the state has a
// value already are not asked for, nor, if it is the form that is being filled in, those
// that were skipped.
func (t *Turn[S]) Fill(form string) {
	f := t.program.forms[form]
	if f == nil {
		t.fail("fill %q: not a form of this flow", form)
		return
	}
	if t.ended {
		t.fail("fill %q after End: nothing of it would be remembered", form)
		return
	}
	if t.fills++; t.fills > maxFills {
		t.fail("fill %q: %d forms begun in one turn: does Done begin one that is done?", form, t.fills)
		return
	}
	begun := filling{Form: form}
	if was := &t.progress.Form; was.Form == form {
		begun.Given = was.Given
	}
	t.progress.Form = begun
	if t.input.contact {
		f.takeAnytime(t, nil)
	}
	t.later(f.next(t))
}

// Fill makes a handler that begins a form when the contact writes or presses something;
// anything else it passes.
func Fill[S any](form string) Handler[S] {
	return func(t *Turn[S]) error {
		if !t.input.contact {
			return errPass
		}
		t.Fill(form)
		return nil
	}
}

// Filling is the name of the form that is being filled in; empty if none is.
func (t *Turn[S]) Filling() string { return t.progress.Form.Form }

// AskAgain repeats the question of the form that is being filled in, if one is: after
// something that came between.
func (t *Turn[S]) AskAgain() {
	if f := t.form(); f != nil {
		f.ask(t)
	}
}

// Leave ends the form that is being filled in, if one is, without a word. What was
// answered stays in the state.
func (t *Turn[S]) Leave() {
	if f := t.program.forms[t.Filling()]; f != nil {
		t.CancelFollow(f.Name)
	}
	t.progress.Form, t.progress.Offered, t.progress.Number = filling{}, "", false
}

// later keeps the error of a handler that was called inside of another.
func (t *Turn[S]) later(err error) {
	if err != nil && !errors.Is(err, errPass) && t.fault == nil {
		t.fault = err
	}
}

// form is the one that is being filled in. One that the flow doesn't have any more is
// forgotten.
func (t *Turn[S]) form() *Form[S] {
	if t.progress.Form.IsZero() {
		return nil
	}
	f := t.program.forms[t.progress.Form.Form]
	if f == nil {
		t.progress.Form = filling{}
	}
	return f
}

func (f *Form[S]) check() error {
	var errs []error
	if f.Name == "" || len(followTimer)+len(f.Name) > parley.MaxNameBytes {
		errs = append(errs, fmt.Errorf("a name of 1 to %d bytes", parley.MaxNameBytes-len(followTimer)))
	}
	if len(f.Fields) == 0 || len(f.Fields) > MaxFields {
		errs = append(errs, fmt.Errorf("%d fields: 1 to %d (MaxFields)", len(f.Fields), MaxFields))
	}
	if f.Done == nil {
		errs = append(errs, errors.New("no Done: what happens when all is there?"))
	}
	if f.Attempts < 0 {
		errs = append(errs, fmt.Errorf("%d attempts", f.Attempts))
	}
	names, labels := map[string]bool{}, map[string]bool{}
	for i := range f.Fields {
		field := &f.Fields[i]
		if names[field.name] || labels[Fold(field.label)] {
			errs = append(errs, fmt.Errorf("two fields called %q or %q", field.name, field.label))
		}
		names[field.name], labels[Fold(field.label)] = true, true
		errs = append(errs, field.check())
	}
	return errors.Join(errs...)
}

// take handles what the contact says while the form is filled in.
func (f *Form[S]) take(t *Turn[S]) error {
	if !t.input.contact {
		return errPass
	}
	if handled, err := f.command(t); handled {
		return err
	}
	current := f.current(t)
	err := errUnread
	if current != nil && !f.foreign(t) {
		_, err = current.take(t, t.answer())
	}
	took := err == nil
	if took {
		f.give(t, current)
	}
	if !took || current.within {
		took = f.takeAnytime(t, current) || took
	}
	switch {
	case took:
		return f.next(t)
	case f.stage(t) == confirming && f.confirmed(t):
		return f.done(t)
	case f.foreign(t):
		return errPass
	case f.stage(t) == lost:
		return f.next(t)
	}
	return f.retry(t, err)
}

// stage is what the form waits for.
func (f *Form[S]) stage(t *Turn[S]) stage {
	switch {
	case t.progress.Form.Field == "":
		return confirming
	case f.current(t) == nil:
		return lost
	}
	return asking
}

type stage int

const (
	asking stage = iota
	confirming
	lost // a question that a new version of the form doesn't have
)

func (t *Turn[S]) answer() Answer {
	return Answer{Text: t.input.text, Payload: t.input.payload, Input: t.input.Input, Now: t.Now(), words: &t.program.words}
}

// foreign reports whether the input was pressed on something that the form has not
// shown last.
func (f *Form[S]) foreign(t *Turn[S]) bool { return t.input.payload != "" && !t.chosen }

// current is the field that was asked for; nil if none was, or if the form doesn't have
// it any more.
func (f *Form[S]) current(t *Turn[S]) *Field[S] { return f.field(t.progress.Form.Field) }

func (f *Form[S]) field(name string) *Field[S] {
	for i := range f.Fields {
		if f.Fields[i].name == name {
			return &f.Fields[i]
		}
	}
	return nil
}

// give notes that a field was answered, if its value doesn't tell.
func (f *Form[S]) give(t *Turn[S], field *Field[S]) {
	p := &t.progress.Form
	p.Given = slices.DeleteFunc(p.Given, func(name string) bool { return name == field.name })
	if !field.given(t.State) {
		p.Given = append(p.Given, field.name)
	}
}

// takeAnytime lets the fields take what they find in the input, but for the one that
// has had it. What they knew already is nothing new.
func (f *Form[S]) takeAnytime(t *Turn[S], but *Field[S]) bool {
	took := false
	for i := range f.Fields {
		field := &f.Fields[i]
		if !field.anytime || field == but || !field.asks(t.State) {
			continue
		}
		if changed, err := field.take(t, t.answer()); err == nil && changed {
			f.give(t, field)
			took = true
		}
	}
	return took
}

// command obeys the words that are not answers. What was pressed is one only if the
// form has shown it.
func (f *Form[S]) command(t *Turn[S]) (handled bool, err error) {
	said, w := t.input.fold(), &t.program.words
	if t.input.payload != "" {
		name, ok := strings.CutPrefix(t.input.payload, changePayload)
		if field := f.field(name); ok && field != nil {
			return true, f.change(t, field)
		}
		return false, nil
	}
	current := f.current(t)
	switch {
	case slices.Contains(w.cancel, said):
		return true, f.leave(t, f.Cancelled, t.program.phrases.Cancelled)
	case slices.Contains(w.back, said):
		return true, f.change(t, f.before(t))
	case slices.Contains(w.skip, said) && current != nil && current.optional:
		current.clear(t.State)
		f.give(t, current)
		return true, f.next(t)
	}
	if field := f.named(t, said); field != nil {
		return true, f.change(t, field)
	}
	return false, nil
}

// changePayload begins the payload of an option that changes a field.
const changePayload = ownTimers + "change."

// named is the field of which it is said that it is to be changed.
func (f *Form[S]) named(t *Turn[S], said string) *Field[S] {
	for _, word := range t.program.words.change {
		rest, ok := strings.CutPrefix(said, word)
		if !ok || rest == "" || rest[0] != ' ' {
			continue
		}
		for i := range f.Fields {
			field := &f.Fields[i]
			label := Fold(t.translated(field.label))
			if field.asks(t.State) && (contains(rest, label) || contains(rest, Fold(field.name))) {
				return field
			}
		}
	}
	return nil
}

// before is the field that stands before the current one; the current one, if it is the
// first.
func (f *Form[S]) before(t *Turn[S]) *Field[S] {
	var last *Field[S]
	for i := range f.Fields {
		field := &f.Fields[i]
		if field.name == t.progress.Form.Field && last != nil {
			return last
		}
		if field.asks(t.State) {
			last = field
		}
		if field.name == t.progress.Form.Field {
			return field
		}
	}
	return last
}

// change asks for a field anew.
func (f *Form[S]) change(t *Turn[S], field *Field[S]) error {
	if field == nil {
		return f.next(t)
	}
	field.clear(t.State)
	p := &t.progress.Form
	p.Given = slices.DeleteFunc(p.Given, func(name string) bool { return name == field.name })
	p.Field, p.Tries = field.name, 0
	f.ask(t)
	return nil
}

// next asks for what is missing, or for a confirmation, or is done.
func (f *Form[S]) next(t *Turn[S]) error {
	p := &t.progress.Form
	p.Field, p.Tries = "", 0
	for i := range f.Fields {
		field := &f.Fields[i]
		if field.asks(t.State) && !field.given(t.State) && !slices.Contains(p.Given, field.name) {
			p.Field = field.name
			break
		}
	}
	if p.Field == "" && f.Confirm == nil {
		return f.done(t)
	}
	f.ask(t)
	return nil
}

// ask asks what is asked.
func (f *Form[S]) ask(t *Turn[S]) { f.askAfter(t, "") }

// askAfter asks, below words that come before.
func (f *Form[S]) askAfter(t *Turn[S], words string) {
	if f.stage(t) == lost {
		t.later(f.next(t))
		return
	}
	field := f.current(t)
	var text string
	var options []Option
	if field == nil {
		text, options = f.Confirm(t), f.changes(t)
	} else {
		text = field.question(t)
		if field.options != nil {
			options = field.options(t)
		}
	}
	if words != "" {
		text = words + "\n" + text
	}
	t.progress.Offered, t.progress.Number = "", false
	switch {
	case field != nil && field.offered != "":
		t.offer(text, options, field.offered)
	case len(options) > 0:
		t.Offer(text, options...)
	case field != nil && field.place && t.Conversation().Channel.Kind == parley.WhatsApp:
		t.Do(parley.Send{Text: text, AskLocation: true})
	default:
		t.Say(text)
	}
	if f.reminds() && !t.reminded(f.Name) {
		remind := f.Remind
		remind.Name, remind.IfSilent, remind.AskAgain = f.Name, true, true
		t.Follow(remind)
	}
}

func (f *Form[S]) reminds() bool { return f.Remind.Text != "" || f.Remind.Template != nil }

// reminded reports whether this turn is that of the follow-up: one is enough.
func (t *Turn[S]) reminded(name string) bool {
	fired, ok := t.Turn.Input().(parley.TimerFired)
	return ok && fired.Name == followTimer+name
}

// changes are what can be said to a confirmation.
func (f *Form[S]) changes(t *Turn[S]) []Option {
	p := &t.program.phrases
	options := []Option{{Title: t.translated(p.Confirm), Payload: p.Yes[0]}}
	for i := range f.Fields {
		field := &f.Fields[i]
		if !field.asks(t.State) || len(options) == MaxOptions {
			continue
		}
		title := t.translated(p.ChangeOf, Args{"field": t.translated(field.label)})
		options = append(options, Option{Title: title, Payload: changePayload + field.name})
	}
	return options
}

// confirmed reports whether the contact said yes to the confirmation.
func (f *Form[S]) confirmed(t *Turn[S]) bool {
	if t.input.payload != "" {
		return t.chosen && t.input.payload == t.program.phrases.Yes[0]
	}
	return says(t.input.fold(), t.program.words.yes)
}

// retry asks once more, or no more.
func (f *Form[S]) retry(t *Turn[S], err error) error {
	t.progress.Form.Tries++
	if t.progress.Form.Tries >= cmp.Or(f.Attempts, attempts) {
		return f.leave(t, f.GaveUp, t.program.phrases.GaveUp)
	}
	f.askAfter(t, t.refusal(err))
	return nil
}

func (f *Form[S]) done(t *Turn[S]) error {
	t.Leave()
	return f.Done(t)
}

// leave ends the form before it is done.
func (f *Form[S]) leave(t *Turn[S], handle Handler[S], phrase string) error {
	t.Leave()
	if handle != nil {
		return handle(t)
	}
	t.Say(t.translated(phrase))
	return nil
}
