package main

import (
	"context"
	"time"

	"github.com/parleychat/parley/bench/rounds"
)

// Child is what the program does with its first argument.
func Child(args []string) { child(args[0], args[1:]) }

// Small measures every scenario once, in little time.
func Small(ctx context.Context, folder string) ([]rounds.Result, error) {
	return rounds.Run(ctx, scenarios(small(folder)), 1, func(int, string, []rounds.Figure) {})
}

func small(folder string) config {
	return config{
		rounds: 1, rate: 300, duration: 500 * time.Millisecond, warmup: 100 * time.Millisecond,
		users: 60, conversations: 1000, messages: 2, folder: folder, profiles: folder,
	}
}

// Check is the check of a configuration with other numbers.
func Check(rate float64, users, conversations int) error {
	c := small("")
	c.rate, c.users, c.conversations = rate, users, conversations
	return c.check()
}

// Holds is the check of what an entrance has left in its store.
func Holds(ctx context.Context, folder string, rows int) error { return holds(ctx, folder, rows) }
