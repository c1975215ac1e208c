package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/examples/pizzeria"
)

const (
	// checkedMax bounds the measurement, the filling of both stores included.
	checkedMax = 30 * time.Minute
	// checkedMicrosMax is promised: a million conversations in a minute.
	checkedMicrosMax = 60
	checkedGroup     = 256 // conversations in one transaction
	checkedTurns     = 70  // that each has had: more than the keys that a snapshot holds
)

// checked is stores full of conversations whose state is of the previous version of a
// bot, for its check.
type checked struct{ config }

// measureAll fills the stores, and measures the check on them.
func (c checked) measureAll(ctx context.Context) (results []rounds.Result, notes []string, err error) {
	var all []scenario
	var leaves []func() error
	defer func() {
		for _, leave := range leaves {
			err = errors.Join(err, leave())
		}
	}()
	for _, kind := range []string{storeEmbedded, storePostgres} {
		if c.store != "" && c.store != kind {
			continue
		}
		at, leave, err := c.lodge(ctx, kind)
		if err != nil {
			return nil, nil, err
		}
		leaves = append(leaves, leave)
		size, err := c.fill(ctx, at)
		if err != nil {
			return nil, nil, err
		}
		name := "bot check"
		if kind == storePostgres {
			name += ", postgres"
		}
		notes = append(notes, fmt.Sprintf("%s: %d conversations stored, each a snapshot of %d bytes, of the previous version of the bot", name, c.checked, size))
		all = append(all, scenario{rounds.Scenario{Name: name, AtMost: checkedMicrosMax, Measure: c.measure(at)}, kind})
	}
	results, err = rounds.Run(ctx, c.pick(all), c.rounds, progress)
	return results, notes, err
}

// fill stores conversations by commits, as turns would, and returns the size of one.
func (c checked) fill(ctx context.Context, at *lodging) (size int, err error) {
	template := checkedTemplate()
	b, err := template.AppendBinary(nil)
	if err != nil {
		return 0, err
	}
	s, err := openStore(ctx, at.place())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for n := 0; n < c.checked; {
		var group []parley.Commit
		for ; len(group) < checkedGroup && n < c.checked; n++ {
			next := template
			next.Conversation = parley.Conversation{Channel: channel(), Contact: parley.Contact(fmt.Sprintf("%s%010d", parley.UserKey, n))}
			group = append(group, parley.Commit{Conversation: next.Conversation, Next: next})
		}
		errs, err := s.Commit(ctx, group)
		if err := errors.Join(append(errs, err)...); err != nil {
			return 0, fmt.Errorf("fill the store: %w", err)
		}
	}
	return len(b), nil
}

// checkedTemplate is a conversation in the middle of an order.
func checkedTemplate() parley.Snapshot {
	bot := pizzeria.Bot()
	s := parley.Snapshot{Conversation: parley.Conversation{Channel: channel(), Contact: parley.UserKey + "template"}}
	for n := 1; n <= checkedTurns; n++ {
		row := parley.Pending{
			Row: parley.Row{Seq: parley.Seq(n)}, Conversation: s.Conversation, Key: parley.NewEventKey(fmt.Sprint(n)),
			Received: time.UnixMilli(int64(1_800_000_000_000 + 2000*n)), Input: parley.Message{Text: fmt.Sprintf("say %d", n)},
		}
		s = parley.Step(bot.Previous, s, []parley.Pending{row}, parley.Circumstance{Nonce: [16]byte{byte(n)}}).Next
	}
	s.Version = parley.Version{Number: 1, Token: 1}
	return s
}

// measure runs the command as an operator does, its start included.
func (c checked) measure(at *lodging) func(context.Context) ([]rounds.Figure, error) {
	return func(ctx context.Context) ([]rounds.Figure, error) {
		folder, remove, err := c.tempFolder()
		if err != nil {
			return nil, err
		}
		defer remove()
		args := []string{botArgument, "check", "--json", "--data", at.folder}
		if at.base != nil {
			place := filepath.Join(folder, "database")
			if err := os.WriteFile(place, []byte(at.base.url), 0o600); err != nil { //nolint:mnd // the owner's
				return nil, err
			}
			args = []string{botArgument, "check", "--json", "--database", "file:" + place}
		}
		cmd, err := self(ctx, args...)
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		cmd.Stdout = &out
		began := time.Now()
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("bot check: %w", err)
		}
		took := time.Since(began)
		var told struct {
			Bots []struct {
				Versions []struct{ Version, Conversations, Failing int }
			}
		}
		if err := json.Unmarshal(out.Bytes(), &told); err != nil {
			return nil, fmt.Errorf("bot check: %w", err)
		}
		if len(told.Bots) != 1 || len(told.Bots[0].Versions) != 1 || told.Bots[0].Versions[0].Version != 1 || told.Bots[0].Versions[0].Conversations != c.checked {
			return nil, fmt.Errorf("bot check: want %d conversations of version 1: %s", c.checked, out.Bytes())
		}
		return []rounds.Figure{{Name: "time", Unit: "µs/conversation", Value: micros(took) / float64(c.checked)}}, nil
	}
}
