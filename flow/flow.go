// Package flow is for those who write bots. A bot is a Flow: a value that holds plain
// Go functions over a typed state.
//
//	type order struct{ Size string }
//
//	func Bot() parley.Bot {
//		return flow.Flow[order]{
//			Name: "pizza", Version: 1,
//			Start: flow.Match(
//				flow.On(flow.Says("hello", "hi"), greet),
//				flow.On(flow.Payload("L"), large),
//			),
//		}.Bot()
//	}
//
// A Handler gets a Turn: the input, the state, and what it may want. It must be pure,
// as parley.Behavior says: no clock, no random number, no I/O, no variable that
// outlives it. Everything else is kept for it: the state is stored when it returns nil;
// nothing that it wanted happens when it returns an error or panics, and the input
// becomes a dead letter.
//
// An input is offered to, in this order: the Commands, the form that is being filled
// in, the behaviour, Otherwise. The first that doesn't pass has handled it.
//
// What a flow remembers by itself (the question that was asked, what was offered, what
// waits) is stored with the state, so that a conversation goes on after restarts, on
// other nodes and under new versions of the bot. Where there is nothing to remember the
// stored state is that of S and nothing else.
//
// The package imports parley and the standard library. It does no I/O, starts no
// goroutine and has no variables: a Flow may be used by any number of conversations at
// once.
package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// Handler handles an input of a conversation whose state is an S. One that does not
// know what to do with it returns t.Pass().
type Handler[S any] func(t *Turn[S]) error

// Flow is a bot. Name and Start are required. S is stored as JSON, and the zero S is
// the state of a new conversation.
type Flow[S any] struct {
	Name    string
	Version int // of S; the first is 1

	// Migrations, Fallback and Previous are for conversations that an earlier version
	// began, as parley.Bot says; docs/bots-versions.md is about them. A migration gets
	// the state alone: what the flow remembers is carried on. Fallback's turn has the
	// stored state if that is of this version (and its behaviour is gone), or else a zero
	// one, which is not stored: the old one stays, unless the handler calls SetState or
	// End.
	Migrations map[int]parley.Migration
	Fallback   Handler[S]
	Previous   *parley.Bot

	// Start is the behaviour of a new conversation, and Policy says when it meets what
	// the contact writes: at once, if it is left out.
	Start  Handler[S]
	Policy Policy
	// Named are the behaviours that Turn.Become may name.
	Named map[string]Behavior[S]
	// Forms are those that Turn.Fill may name.
	Forms []Form[S]
	// Commands are rules that are tried before all else: a word for help, one to
	// cancel, one to be handed to a person. While somebody else has the word, the only
	// rules that are tried are those of them that are Always.
	Commands []Rule[S]
	// Otherwise handles what the contact wrote or pressed and nothing else took. Without
	// it that is ignored, as is what else nothing took: reactions, statuses, the words of
	// others.
	Otherwise Handler[S]

	// Messages are the texts in several languages, and Language the one for contacts
	// of whom none is known.
	Messages Messages
	Language string
	// Phrases are the words that forms understand, and what they say by themselves.
	Phrases Phrases

	// PersonTakesOver, if set, is for how long a person has the word after they wrote
	// to the contact by another way than this bot; each message of theirs begins it
	// anew. It counts every message that the bot didn't send (parley.Echo). A hand-off
	// that lasts longer, or is to another app, stays as it is.
	PersonTakesOver time.Duration
}

// Behavior is one of several that a conversation may be in.
type Behavior[S any] struct {
	Handle Handler[S]
	Policy Policy
}

// Bot is the flow as what serves a channel. It panics if the flow isn't sound, as
// Check says: a bot is made when a program starts.
func (f Flow[S]) Bot() parley.Bot {
	p, err := compile(&f)
	if err != nil {
		panic("flow: bot " + f.Name + ": " + err.Error())
	}
	return p.bot()
}

// bot is the program as the rest of Parley knows it.
func (p *program[S]) bot() parley.Bot {
	f := p.flow
	bot := parley.Bot{Name: f.Name, Version: f.Version, Behavior: p.behavior(f.named("")), Previous: f.Previous}
	if len(f.Named) > 0 {
		bot.Named = make(map[string]parley.Behavior, len(f.Named))
	}
	for name, b := range f.Named {
		bot.Named[name] = p.behavior(b)
	}
	if len(f.Migrations) > 0 {
		bot.Migrations = make(map[int]parley.Migration, len(f.Migrations))
	}
	for from, m := range f.Migrations {
		bot.Migrations[from] = around(m)
	}
	if f.Fallback != nil {
		bot.Fallback = parley.BehaviorFunc(p.fallback)
	}
	return bot
}

// named is the behaviour of a name, which the flow has.
func (f *Flow[S]) named(name string) Behavior[S] {
	if name == "" {
		return Behavior[S]{f.Start, f.Policy}
	}
	return f.Named[name]
}

// Check says what is wrong with the flow: something that is missing, two of a name, a
// text that isn't in the catalogue. Nil if nothing is.
func (f Flow[S]) Check() error {
	_, err := compile(&f)
	return err
}

// program is a flow that is sound, with what a turn looks up.
type program[S any] struct {
	flow     *Flow[S]
	forms    map[string]*Form[S]
	messages catalogue
	phrases  Phrases
	words    words
}

func compile[S any](f *Flow[S]) (*program[S], error) {
	p := &program[S]{flow: f, forms: make(map[string]*Form[S], len(f.Forms)), phrases: f.Phrases.withDefaults()}
	p.words = p.phrases.fold()
	catalogue, err := f.Messages.compile(f.Language)
	if err != nil {
		return nil, err
	}
	p.messages = catalogue
	if err := errors.Join(p.checkBehaviors(), p.checkForms(), checkState[S]()); err != nil {
		return nil, err
	}
	bot := p.bot()
	if err := bot.Validate(); err != nil {
		return nil, fmt.Errorf("versions: %w", err)
	}
	return p, nil
}

func (p *program[S]) checkBehaviors() error {
	f := p.flow
	var errs []error
	if f.Name == "" {
		errs = append(errs, errors.New("no name"))
	}
	if f.Start == nil {
		errs = append(errs, errors.New("no Start: who handles the first input?"))
	}
	if f.PersonTakesOver < 0 || f.PersonTakesOver > parley.MaxTimerAhead {
		errs = append(errs, fmt.Errorf("PersonTakesOver %s: 0 to %s", f.PersonTakesOver, parley.MaxTimerAhead))
	}
	errs = append(errs, f.Policy.check("Policy"))
	for _, name := range slices.Sorted(maps.Keys(f.Named)) {
		if name == "" || len(name) > parley.MaxNameBytes {
			errs = append(errs, fmt.Errorf("behaviour %q: a name of 1 to %d bytes", name, parley.MaxNameBytes))
		}
		if f.Named[name].Handle == nil {
			errs = append(errs, fmt.Errorf("behaviour %q: no handler", name))
		}
		errs = append(errs, f.Named[name].Policy.check("behaviour "+name))
	}
	for i, r := range f.Commands {
		if r.handle == nil {
			errs = append(errs, fmt.Errorf("command %d of %d: not made by On", i+1, len(f.Commands)))
		}
	}
	return errors.Join(errs...)
}

func (p *program[S]) checkForms() error {
	var errs []error
	if len(p.flow.Forms) > MaxForms {
		errs = append(errs, fmt.Errorf("%d forms: at most %d (MaxForms)", len(p.flow.Forms), MaxForms))
	}
	for i := range p.flow.Forms {
		f := &p.flow.Forms[i]
		if p.forms[f.Name] != nil {
			errs = append(errs, fmt.Errorf("two forms called %q", f.Name))
		}
		p.forms[f.Name] = f
		if err := f.check(); err != nil {
			errs = append(errs, fmt.Errorf("form %q: %w", f.Name, err))
		}
	}
	return errors.Join(errs...)
}

// checkState sees that S has a stored form, and one that isn't taken for a flow's own.
func checkState[S any]() error {
	b, err := json.Marshal(new(S))
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if bytes.HasPrefix(b, []byte(envelopePrefix)) {
		return fmt.Errorf("state: its first field is called %q, which is the flow's own", progressField)
	}
	return nil
}

// turn is the turn of a behaviour, with the zero state.
func (p *program[S]) turn(turn *parley.Turn, b Behavior[S]) *Turn[S] {
	// One allocation for the two that live as long as the turn.
	room := &struct {
		Turn[S]
		state S
	}{Turn: Turn[S]{Turn: turn, program: p, behavior: b}}
	room.State = &room.state
	return &room.Turn
}

func (p *program[S]) behavior(b Behavior[S]) parley.Behavior {
	return parley.BehaviorFunc(func(turn *parley.Turn) error {
		t := p.turn(turn, b)
		if err := t.load(); err != nil {
			return err
		}
		if err := t.run(); err != nil && !errors.Is(err, errPass) {
			return err
		}
		return t.store()
	})
}

// fallback lets the flow's handle a conversation that can't go on.
func (p *program[S]) fallback(turn *parley.Turn) error {
	t := p.turn(turn, p.flow.named(""))
	fault, _ := errors.AsType[*parley.TurnError](turn.FallbackCause())
	readable := fault != nil && fault.Kind == parley.TurnBehavior
	if readable {
		if err := t.load(); err != nil {
			return err
		}
	}
	t.hear(turn.Input())
	if t.Speaker() != parley.SpeakerBot {
		return nil
	}
	if err := p.flow.Fallback(t); err != nil && !errors.Is(err, errPass) {
		return err
	}
	if readable {
		return t.store()
	}
	return t.fault
}
