package parley

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A bot outlives its programs: conversations begun with one version of it go on
// with the next. What a conversation's state looks like is the bot's own affair, so
// each stored state says which version of which bot wrote it, and
//
//   - one of an older version is migrated, step by step, in the turn that meets it;
//   - one of a newer version is never touched: its turns are put off;
//   - one of a newer version isn't written while somebody doesn't read it
//     (Circumstance.BotVersion): meanwhile the turn is the previous version's.

// Migration makes the state of a version into that of the next. It must be pure, as
// a Behavior must, and gets what was stored, never nothing.
type Migration func(state []byte) ([]byte, error)

// Migrate is a Migration between two types whose values are kept as JSON, as
// SetState and Stateful do. Keep the type of each version that may still be stored.
// What f returns as an error is shown to operators: it must not repeat the state.
func Migrate[From, To any](f func(From) (To, error)) Migration {
	return func(state []byte) ([]byte, error) {
		var from From
		if err := json.Unmarshal(state, &from); err != nil {
			return nil, fmt.Errorf("decode state into %T: %s", from, misread(err))
		}
		to, err := f(from)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(to)
		if err != nil {
			return nil, fmt.Errorf("encode state of %T: %w", to, err)
		}
		return b, nil
	}
}

// misread says what is wrong with JSON without the value that is: encoding/json
// names numbers in its errors.
func misread(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(wrong.Value, " ")
		return fmt.Sprintf("field %q is a %s, want %s", wrong.Field, kind, wrong.Type)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("not JSON from byte %d on", syntax.Offset)
	}
	return fmt.Sprintf("%T", err)
}

// version is the bot's; a bot that names none has the first.
func (b *Bot) version() int { return max(b.Version, 1) }

// wrote reports whether the bot, in some version, has left something in s that
// another version might not understand, and in which.
func (b *Bot) wrote(s *Snapshot) (version int, ok bool) {
	if s.Bot != b.Name || len(s.State) == 0 && s.Behavior == "" {
		return 0, false
	}
	return max(s.BotVersion, 1), true
}

// Knows reports whether the bot has a behaviour of that name; empty is Bot.Behavior.
func (b *Bot) Knows(behavior string) bool {
	_, ok := b.Named[behavior]
	return ok || behavior == ""
}

// Upgrade is the state of s in the form of the bot's version, which its migrations
// make, one after the other; s itself isn't touched. What another bot wrote, or
// nobody, is returned as it is. A state of a newer version is ErrFormat. If a step
// is missing, fails, panics or makes more than MaxStateBytes, the error is a
// TurnError of kind TurnMigration.
func (b *Bot) Upgrade(s *Snapshot) ([]byte, error) {
	from, ok := b.wrote(s)
	if !ok {
		return s.State, nil
	}
	if from > b.version() {
		return nil, fmt.Errorf("state of version %d of bot %s: this program has %d: %w", from, b.Name, b.version(), ErrFormat)
	}
	state := s.State
	for ; from < b.version() && len(state) > 0; from++ {
		next, err := b.step(from, state)
		if err == nil && len(next) > MaxStateBytes {
			err = fmt.Errorf("state of %d bytes: at most %d (MaxStateBytes)", len(next), MaxStateBytes)
		}
		if err != nil {
			return nil, &TurnError{Kind: TurnMigration, Cause: fmt.Sprintf("from version %d to %d: %v", from, from+1, err)}
		}
		state = next
	}
	return state, nil
}

var errNoMigration = errors.New("the bot has no such migration")

// step is one migration.
func (b *Bot) step(from int, state []byte) (next []byte, err error) {
	migration := b.Migrations[from]
	if migration == nil {
		return nil, errNoMigration
	}
	defer func() {
		if r := recover(); r != nil {
			err = errors.New(panicCause(r))
		}
	}()
	return migration(append([]byte(nil), state...)) // its own, to do with as it likes
}

// MaxPrevious is the number of earlier versions that a bot may keep.
const MaxPrevious = 8

// Validate says what is wrong with how a bot's versions hang together.
func (b *Bot) Validate() error {
	if b.Version < 0 {
		return fmt.Errorf("bot %s: version %d: versions begin with 1", b.Name, b.Version)
	}
	for from, m := range b.Migrations {
		if from < 1 || from >= b.version() || m == nil {
			return fmt.Errorf("bot %s: migration from version %d: want functions from 1 to %d (below its version)", b.Name, from, b.version()-1)
		}
	}
	newer := b
	for n := 1; newer.Previous != nil; n++ {
		p := newer.Previous
		switch {
		case n > MaxPrevious:
			return fmt.Errorf("bot %s: more than %d previous versions (MaxPrevious)", b.Name, MaxPrevious)
		case p.Name != b.Name:
			return fmt.Errorf("bot %s: its previous version is named %s: conversations would go over to another bot", b.Name, p.Name)
		case p.Version < 0 || p.version() >= newer.version():
			return fmt.Errorf("bot %s: version %d has %d for the previous one", b.Name, newer.Version, p.Version)
		}
		newer = p
	}
	return nil
}

// PutOff is why a turn is not to be taken yet. The name is that of metrics and logs.
type PutOff string

// The reasons.
const (
	// NewerState: the state is of a newer version of the bot than this program has.
	// Who has it must run the conversation.
	NewerState PutOff = "newer_state"
	// OlderReaders: somebody doesn't read yet what the bot would write, and no
	// previous version of it is kept that could go on meanwhile.
	OlderReaders PutOff = "older_readers"
)

// at is the bot in the version that takes the turn: the newest of which everybody
// reads what it writes. What is stored in a newer version already is read by those
// who keep to these rules, or left alone, and can go on in that.
func (b *Bot) at(s *Snapshot, everybody int) (*Bot, PutOff) {
	if everybody <= 0 {
		everybody = b.version()
	}
	stored, ok := b.wrote(s)
	if ok && stored > b.version() {
		return nil, NewerState
	}
	everybody = max(everybody, stored)
	for one, n := b, 0; one != nil && n <= MaxPrevious; one, n = one.Previous, n+1 {
		if v := one.version(); v >= stored && v <= everybody {
			return one, ""
		}
	}
	return nil, OlderReaders
}

// receiver is who gets the turn's input, with the state in its form. Nothing that
// was stored is in the way of that: what can't be migrated, and a behaviour that
// isn't there any more, are the Fallback's.
func (w *work) receiver(t *Turn) (Behavior, *TurnError) {
	state, err := w.bot.Upgrade(&w.next)
	if err != nil {
		fault := migrationFault(err)
		if w.bot.Fallback == nil {
			return nil, fault
		}
		t.fallback = fault
		return w.bot.Fallback, nil
	}
	if from, ok := w.bot.wrote(&w.next); ok && from < w.bot.version() {
		t.state, t.migrated = state, true
	}
	if w.bot.Fallback != nil && !w.bot.Knows(w.next.Behavior) {
		t.fallback = &TurnError{Kind: TurnBehavior, Cause: fmt.Sprintf("the bot has no behaviour %q", w.next.Behavior)}
		return w.bot.Fallback, nil
	}
	return w.bot.behavior(w.next.Behavior), nil
}

// fallsBack begins a turn anew for the Fallback that failed because its state couldn't
// be decoded: it would fail again with every input.
func (w *work) fallsBack(t *Turn, fault *TurnError) bool {
	if fault == nil || fault.Kind != TurnState || !t.unreadable || t.fallback != nil || w.bot.Fallback == nil {
		return false
	}
	*t = Turn{conversation: t.conversation, now: t.now, event: t.event, before: t.before, state: w.next.State, fallback: fault}
	return true
}

func migrationFault(err error) *TurnError {
	if fault, ok := errors.AsType[*TurnError](err); ok {
		return fault
	}
	return &TurnError{Kind: TurnMigration, Cause: err.Error()}
}

// FallbackCause is why Bot.Fallback has the input, a TurnError of kind TurnMigration,
// TurnState or TurnBehavior; nil for every other behaviour. Of the first two the state
// is what was stored, in its old form, and stays it unless it is replaced, with
// SetState, by one of the bot's version, or ended.
func (t *Turn) FallbackCause() error {
	if t.fallback == nil {
		return nil
	}
	return t.fallback
}
