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
	idleMessages = 2   // that each conversation has had
	idleBatch    = 100 // messages in a webhook
	idleRate     = 200 // webhooks per second
	idleSecret   = "the secret of a benchmark"
)

// idle is the memory of conversations that have had their turns and wait for
// the next: all that the process holds more than before the first of them.
func (c config) idle(ctx context.Context) (figures []rounds.Figure, err error) {
	if c.conversations < idleBatch || c.conversations%idleBatch != 0 {
		return nil, fmt.Errorf("%d conversations: want a multiple of %d", c.conversations, idleBatch)
	}
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
	before, err := askMemory(process)
	if err != nil {
		return nil, err
	}
	if err := c.visit(ctx, process.Addr); err != nil {
		return nil, err
	}
	after, err := askMemory(process)
	if err != nil {
		return nil, err
	}
	if after.Live != c.conversations || after.Pending != 0 {
		return nil, fmt.Errorf("%d conversations live, %d rows pending: want %d and 0", after.Live, after.Pending, c.conversations)
	}
	each := func(before, after uint64) float64 { return (float64(after) - float64(before)) / 1024 / float64(c.conversations) }
	return []rounds.Figure{
		{Name: "heap", Unit: "KiB/conversation", Value: each(before.Heap, after.Heap)},
		{Name: "RSS", Unit: "KiB/conversation", Value: each(before.RSS, after.RSS)},
		{Name: "stacks", Unit: "KiB/conversation", Value: each(before.Stacks, after.Stacks)},
	}, nil
}

// visit writes to all conversations, as often as they are to be visited. The
// second message comes when the first has usually had its turn.
func (c config) visit(ctx context.Context, addr string) error {
	perVisit := c.conversations / idleBatch
	posts := make([]bare.Post, perVisit*idleMessages)
	for k := range posts {
		body := bare.Messages(uint64(k%perVisit*idleBatch), uint64(k*idleBatch), idleBatch, messageBytes)
		posts[k] = bare.Post{Body: body, Signature: bare.Sign([]byte(idleSecret), body)}
	}
	result, err := bare.Load(ctx, bare.LoadConfig{
		Addr: addr, Path: path, Rate: idleRate, Duration: time.Duration(len(posts)) * time.Second / idleRate,
		Post: func(k uint64) bare.Post { return posts[k] },
	})
	if err == nil && result.Accepted != len(posts) {
		err = fmt.Errorf("%d of %d webhooks were accepted", result.Accepted, len(posts))
	}
	if err != nil {
		return fmt.Errorf("visit conversations: %w", err)
	}
	return nil
}

func askMemory(process *bare.Process) (m memory, err error) {
	answer, err := process.Ask("memory")
	if err == nil {
		err = json.Unmarshal([]byte(answer), &m)
	}
	if err != nil {
		return m, fmt.Errorf("ask for the memory: %w", err)
	}
	return m, nil
}
