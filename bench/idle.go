package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
)

const (
	idleBatch  = 100  // messages in a webhook
	idleUnrest = 1000 // messages before the next are held back until they have had their turns
	idleSecret = "the secret of a benchmark"
)

// idle is the memory of conversations that have had their turns and wait for
// the next: all that the process holds more than before the first of them.
func (c config) idle(ctx context.Context) (figures []rounds.Figure, err error) {
	folder, remove, err := c.tempFolder()
	if err != nil {
		return nil, err
	}
	defer remove()
	child, err := self(ctx, actorsArgument, folder)
	if err != nil {
		return nil, err
	}
	process, err := bare.Start(child, []byte(idleSecret))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, process.Stop()) }()
	var before, after memory
	if err := ask(process, askMemory, &before); err != nil {
		return nil, err
	}
	for visit := range c.messages {
		if err := c.visit(ctx, process, visit); err != nil {
			return nil, fmt.Errorf("write to all conversations: %w", err)
		}
	}
	if err := ask(process, askMemory, &after); err != nil {
		return nil, err
	}
	if file := c.profileOf("idle"); file != "" {
		if err := ask(process, askHeap+file, new(bool)); err != nil {
			return nil, err
		}
	}
	return c.idleFigures(before, after)
}

func (c config) idleFigures(before, after memory) ([]rounds.Figure, error) {
	if before.Live != 0 || after.Live != c.conversations {
		return nil, fmt.Errorf("%d conversations in memory, before %d: want %d, before 0", after.Live, before.Live, c.conversations)
	}
	each := func(before, after uint64) float64 {
		return (float64(after) - float64(before)) / 1024 / float64(c.conversations)
	}
	return []rounds.Figure{
		{Name: "heap", Unit: "KiB/conversation", Value: each(before.Heap, after.Heap)},
		{Name: "RSS", Unit: "KiB/conversation", Value: each(before.RSS, after.RSS)},
		{Name: "stacks", Unit: "KiB/conversation", Value: each(before.Stacks, after.Stacks)},
	}, nil
}

// visit sends each conversation one message. It never lets many of them be busy
// at once: what is measured is what the idle ones hold, not what was needed at
// the height of a rush.
func (c config) visit(ctx context.Context, process *bare.Process, visit int) error {
	for from := 0; from < c.conversations; from += idleUnrest {
		posts := make([]bare.Post, idleUnrest/idleBatch)
		for i := range posts {
			user := uint64(from + i*idleBatch)
			body := bare.Messages(user, uint64(visit*c.conversations)+user, idleBatch, messageBytes)
			posts[i] = bare.Post{Body: body, Signature: bare.Sign([]byte(idleSecret), body)}
		}
		result, err := bare.Load(ctx, bare.LoadConfig{
			Addr: process.Addr, Path: path, Rate: 1000 * float64(len(posts)), Duration: time.Millisecond, Connections: 1,
			Post: func(k uint64) bare.Post { return posts[k] },
		})
		if err == nil && result.Accepted != len(posts) {
			err = fmt.Errorf("%d of %d webhooks were accepted", result.Accepted, len(posts))
		}
		if err == nil {
			err = ask(process, askSettled, new(bool))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ask puts a question to an entrance.
func ask(process *bare.Process, question string, told any) error {
	answer, err := process.Ask(question)
	if err == nil {
		err = json.Unmarshal([]byte(answer), told)
	}
	if err != nil {
		return fmt.Errorf("ask for %s: %w", question, err)
	}
	return nil
}
