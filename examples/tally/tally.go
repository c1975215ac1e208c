// Package tally is the bot of the demonstration and of the load tests: it does
// as it is told and numbers its answers, so that whoever talks to it can tell
// from outside whether a message was lost, took effect twice or out of turn.
//
//	say K         answers "said K #N", N being the number of commands so far
//	remind K MS   answers the same, and MS milliseconds later says "ring K"
//	forget K J    answers the same, and cancels what "remind J" had set
//
// A command comes as a text or as the payload of a button; what follows its
// numbers is padding. Anything else is ignored.
package tally

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// Clock is the service that Calling asks.
const Clock = "clock"

// Wait is what it is asked: to answer after so many milliseconds.
type Wait struct {
	MS uint64 `json:"ms"`
}

// count is the conversation's state: how many commands have taken effect.
type count struct {
	Commands uint64 `json:"commands"`
}

// Bot counts.
func Bot() parley.Bot {
	return parley.Bot{Name: "tally", Version: 1, Behavior: parley.Stateful(func(t *parley.Turn, c *count) error {
		Obey(t, &c.Commands)
		return nil
	})}
}

// Calling is Bot, but that each nth reminder isn't a timer: the service Clock is called,
// and rings by its answer. Nobody can tell from outside.
func Calling(n uint64) parley.Bot {
	return parley.Bot{Name: "tally", Version: 1, Behavior: parley.Stateful(func(t *parley.Turn, c *count) error {
		hear(t, &c.Commands, n)
		return nil
	})}
}

// Caller is Calling(2) under a name of its own, for the demonstration's --calls.
func Caller() parley.Bot {
	bot := Calling(2)
	bot.Name = "tally-calls"
	return bot
}

// Obey does what the turn's input says, for a bot that does more than this one; n is
// the number of commands so far. It reports whether the input was one.
func Obey(t *parley.Turn, n *uint64) bool { return hear(t, n, 0) }

// hear calls for each nth reminder; for none if nth is 0.
func hear(t *parley.Turn, n *uint64, nth uint64) bool {
	switch in := t.Input().(type) {
	case parley.Message:
		return obey(t, n, first(in.Payload, in.Text), nth)
	case parley.Postback:
		return obey(t, n, in.Payload, nth)
	case parley.TimerFired:
		t.Say("ring " + strings.TrimPrefix(in.Name, "t"))
	case parley.Called:
		if in.OK() {
			t.Say("ring " + strings.TrimPrefix(in.Name, "t"))
		}
	default: // nothing that commands
	}
	return false
}

func first(payload, text string) string {
	if payload != "" {
		return payload
	}
	return text
}

func obey(t *parley.Turn, n *uint64, text string, nth uint64) bool {
	word, numbers := parse(text)
	switch {
	case word == "say" && len(numbers) >= 1:
	case word == "remind" && len(numbers) >= 2 && numbers[1] <= uint64(parley.MaxTimerAhead/time.Millisecond):
		remind(t, numbers[0], numbers[1], nth > 0 && numbers[0]%nth == 0)
	case word == "forget" && len(numbers) >= 2:
		t.CancelTimer(timer(numbers[1]))
		if nth > 0 {
			t.CancelCall(timer(numbers[1]))
		}
	default:
		return false
	}
	*n++
	t.Say(fmt.Sprintf("said %d #%d", numbers[0], *n))
	return true
}

func remind(t *parley.Turn, k, ms uint64, calling bool) {
	if !calling {
		t.SetTimer(timer(k), time.Duration(ms)*time.Millisecond)
		return
	}
	body, _ := json.Marshal(Wait{MS: ms}) // a number has a form
	t.Call(parley.Call{Name: timer(k), Service: Clock, Body: body, Within: parley.MaxCallWithin})
}

func timer(k uint64) string { return "t" + strconv.FormatUint(k, 10) }

// parse splits a command into its word and the numbers right after it, at most
// two; the rest is padding.
func parse(text string) (word string, numbers []uint64) {
	fields := strings.Fields(text)
	for i, field := range fields[:min(len(fields), 3)] {
		if i == 0 {
			word = field
			continue
		}
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			break
		}
		numbers = append(numbers, n)
	}
	return word, numbers
}
