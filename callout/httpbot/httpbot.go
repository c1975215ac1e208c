// Package httpbot makes bots of services: each event of a conversation is posted to a
// URL, and the effects are taken from the answer. docs/http-bots.md has the protocol.
//
// # The protocol
//
// The post is a call (parley.Call), so it is made after the commit that decided it, at
// least once, whichever nodes die, and its answer takes effect once. Until that is in,
// the conversation's later inputs wait in its state, in order: of each conversation one
// event is with the bot at a time. An event that the bot has no good answer to becomes a
// dead letter, with the cause, and the next is posted.
package httpbot

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// The limits of what is kept of a conversation. Together, and with what is written
// around them, they fit into parley.MaxStateBytes.
const (
	// MaxHeld is the number of inputs of a conversation that wait for the bot's answer
	// to another. The next ones become dead letters, which can be retried.
	MaxHeld = 64
	// MaxHeldBytes is the size of the inputs that wait, and of the one that is with the
	// bot. One that would pass it becomes a dead letter.
	MaxHeldBytes = 32 << 10
	// MaxBotStateBytes is the size of the state that the bot may keep.
	MaxBotStateBytes = 24 << 10
)

// callPrefix begins the names of the calls that ask the bot, and of its watch.
const callPrefix = "httpbot."

// The watch is a timer that is set while inputs wait. An answer whose turn fails, since
// it killed its process twice, never comes; without the watch they would wait until the
// next input.
const (
	watch      = callPrefix + "watch"
	watchEvery = 5 * time.Minute
)

// Service is the name of the service that the bot of a name is.
func Service(bot string) string { return "http_bots/" + bot }

// Bot is a bot that is served by the service of that name: see Service.
func Bot(name string) parley.Bot {
	b := &bot{service: Service(name)}
	return parley.Bot{Name: name, Version: 1, Behavior: parley.Stateful(b.receive)}
}

type bot struct{ service string }

// state is the conversation's. With is the input that is with the bot.
type state struct {
	State json.RawMessage `json:"state,omitempty"`
	With  *kept           `json:"with,omitempty"`
	Held  []kept          `json:"held,omitempty"`
}

// kept is an input that isn't answered.
type kept struct {
	Key   string          `json:"key"`
	At    time.Time       `json:"at"`
	Late  bool            `json:"late,omitempty"`
	Input json.RawMessage `json:"input"` // as parley.EncodeInput wrote it
}

func (k *kept) call() string { return callPrefix + k.Key }

// receive takes what the bot has answered, or keeps the input for it, and then asks the
// bot about the next.
func (b *bot) receive(t *parley.Turn, s *state) error {
	if c, ok := t.Input().(parley.Called); ok && strings.HasPrefix(c.Name, callPrefix) {
		if s.With == nil || s.With.call() != c.Name {
			return nil // a letter that was retried, of an input that has had its end
		}
		with := s.With
		s.With = nil
		if err := b.answered(t, s, c); err != nil {
			t.Bury(with.Input, err)
		}
	} else {
		if s.With != nil && !t.Calling(s.With.call()) {
			t.Bury(s.With.Input, errors.New("the turn of the bot's answer has failed"))
			s.With = nil
		}
		if f, ok := t.Input().(parley.TimerFired); !ok || f.Name != watch {
			if err := s.keep(t); err != nil {
				return err
			}
		}
	}
	b.next(t, s)
	s.watch(t)
	return nil
}

// watch sets or cancels the watch; at once, if inputs wait and none is with the bot.
// Where the bot's own timers leave no room for it the next input must do.
func (s *state) watch(t *parley.Turn) {
	set := parley.SetTimer{Name: watch, In: watchEvery}
	if s.With == nil {
		set.In = 0
	}
	switch {
	case len(s.Held) == 0 && t.Waiting(watch):
		t.CancelTimer(watch)
	case len(s.Held) > 0 && (s.With == nil || !t.Waiting(watch)) && t.Check(set) == nil:
		t.Do(set)
	}
}

// keep lets the turn's input wait.
func (s *state) keep(t *parley.Turn) error {
	in, err := parley.EncodeInput(t.Input())
	if err != nil {
		return fmt.Errorf("keep the input: %w", err)
	}
	size := len(in)
	for i := range s.Held {
		size += len(s.Held[i].Input)
	}
	if s.With != nil {
		size += len(s.With.Input)
	}
	switch {
	case len(s.Held) == MaxHeld:
		return fmt.Errorf("%d inputs wait for the bot already (MaxHeld)", MaxHeld)
	case size > MaxHeldBytes:
		return fmt.Errorf("inputs of %d bytes would wait for the bot: at most %d (MaxHeldBytes)", size, MaxHeldBytes)
	}
	s.Held = append(s.Held, kept{Key: t.Key().String(), At: t.Now(), Late: t.Late(), Input: in})
	return nil
}

// next asks the bot about the first of the inputs that wait, unless it has one. Those
// that it can't be asked about are buried, as many as one turn may beside an earlier one.
func (b *bot) next(t *parley.Turn, s *state) {
	for buried := 0; s.With == nil && len(s.Held) > 0 && buried < parley.MaxEffects-1; buried++ {
		k := s.Held[0]
		s.Held = s.Held[1:]
		call, err := b.ask(t, s, &k)
		if err == nil {
			err = t.Check(call)
		}
		if err != nil {
			t.Bury(k.Input, err)
			continue
		}
		t.Call(call)
		s.With = &k
	}
}
