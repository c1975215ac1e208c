package flow

import (
	"errors"
	"fmt"
	"slices"

	"github.com/parleychat/parley"
)

// Field is something that a form asks for, made by Ask.
type Field[S any] struct {
	name, label string
	question    func(t *Turn[S]) string
	options     func(t *Turn[S]) []Option
	offered     string // the options as they are remembered, if they are sound and always the same
	condition   func(s *S) bool
	checks      []func(s *S) error
	optional    bool
	anytime     bool
	within      bool
	place       bool
	dynamic     bool // the options are those of now, and not the kind's

	// read reads an answer into the state, unless one of the checks of f holds it back.
	read  func(f *Field[S], s *S, a Answer, choices []Option) (changed bool, err error)
	given func(s *S) bool // it has a value other than the zero one
	clear func(s *S)
}

// Ask makes a field: its name, the question, the place in the state where its value
// belongs, and what sort of value it is. The question may be a key of the catalogue. A
// field is asked for as long as its place holds the zero value and it was not answered.
//
// The name is stored: a conversation whose question isn't there any more goes on with
// the next one that is missing.
func Ask[S any, T comparable](name, question string, at func(s *S) *T, kind Kind[T]) Field[S] {
	f := Field[S]{
		name: name, label: name, within: kind.Within, place: kind.Place,
		question: func(t *Turn[S]) string { return t.translated(question) },
		given:    func(s *S) bool { return *at(s) != *new(T) },
		clear:    func(s *S) { *at(s) = *new(T) },
	}
	switch {
	case len(kind.Options) > 0:
		options := slices.Clone(kind.Options)
		f.options = func(*Turn[S]) []Option { return options }
		if checkOptions(options) == nil {
			f.offered = offered(options)
		}
	case kind.yesNo:
		f.options = func(t *Turn[S]) []Option { return t.yesNo() }
	}
	if at == nil || kind.Parse == nil {
		return f // which Check refuses
	}
	f.read = func(f *Field[S], s *S, a Answer, choices []Option) (bool, error) {
		value, err := kind.Parse(a)
		if choices != nil {
			value, err = picked(choices, a, value, err)
		}
		if err != nil {
			return false, err
		}
		before := *at(s)
		*at(s) = value
		if err := f.holds(s); err != nil {
			*at(s) = before
			return false, err
		}
		return before != value, nil
	}
	return f
}

// picked is the payload of the option that an answer means, where values are texts; else
// what was parsed.
func picked[T any](options []Option, a Answer, parsed T, err error) (T, error) {
	if text, ok := any(&parsed).(*string); ok {
		*text, err = pick(options, a)
	}
	return parsed, err
}

// Label is what people call the field, in "change size" and in the options of a
// confirmation; the name, without it. It may be a key of the catalogue.
func (f Field[S]) Label(label string) Field[S] {
	f.label = label
	return f
}

// Asking lets the question depend on the conversation.
func (f Field[S]) Asking(question func(t *Turn[S]) string) Field[S] {
	f.question = question
	return f
}

// Choices lets the options depend on the conversation: for a field whose value is a
// string, which is then the payload of one of them and nothing else.
func (f Field[S]) Choices(options func(t *Turn[S]) []Option) Field[S] {
	f.options, f.offered, f.dynamic = options, "", true
	return f
}

// If asks for the field only where a condition holds.
func (f Field[S]) If(condition func(s *S) bool) Field[S] {
	f.condition = condition
	return f
}

// Check looks at the state after an answer was taken into it. An error, made with
// Retry, takes the answer back.
func (f Field[S]) Check(check func(s *S) error) Field[S] {
	f.checks = append(slices.Clip(f.checks), check)
	return f
}

// Optional lets the contact skip the field.
func (f Field[S]) Optional() Field[S] {
	f.optional = true
	return f
}

// Anytime lets the field take what it finds in any message to the form, also in the
// one that began it: "a large margherita, please" fills two fields. It is for kinds
// that are Within.
func (f Field[S]) Anytime() Field[S] {
	f.anytime = true
	return f
}

func (f *Field[S]) check() error {
	switch {
	case f.name == "" || len(f.name) > parley.MaxNameBytes:
		return fmt.Errorf("field with a name of %d bytes: 1 to %d", len(f.name), parley.MaxNameBytes)
	case f.read == nil:
		return fmt.Errorf("field %q: not made by Ask, or without its place or its kind", f.name)
	case f.question == nil:
		return fmt.Errorf("field %q: no question", f.name)
	case Fold(f.label) == "":
		return fmt.Errorf("field %q: empty label", f.name)
	case f.anytime && !f.within:
		return fmt.Errorf("field %q: Anytime, and its kind takes the whole text", f.name)
	}
	return nil
}

// take reads an answer into the state, if it is one that every check holds good.
func (f *Field[S]) take(t *Turn[S], a Answer) (changed bool, err error) {
	var choices []Option
	if f.dynamic {
		choices = append([]Option{}, f.options(t)...)
	}
	return f.read(f, t.State, a, choices)
}

// holds runs the checks over a state with an answer in it.
func (f *Field[S]) holds(s *S) error {
	for _, check := range f.checks {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// asks reports whether the field is part of the form as things are.
func (f *Field[S]) asks(s *S) bool { return f.condition == nil || f.condition(s) }

func (t *Turn[S]) yesNo() []Option {
	p := &t.program.phrases
	return []Option{{Title: t.translated(p.Confirm), Payload: p.Yes[0]}, {Title: t.translated(p.Deny), Payload: p.No[0]}}
}

// refusal is what the contact is told of an answer that was not taken.
func (t *Turn[S]) refusal(err error) string {
	if told, ok := errors.AsType[*retryError](err); ok {
		return t.translated(told.text, told.args...)
	}
	return t.translated(t.program.phrases.Again)
}
