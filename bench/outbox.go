package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/meta"
	"github.com/parleychat/parley/persistence/embedded"
)

// outbox is what an entrance sends while it serves: messages that are there from
// the beginning, one to a contact, so that what is measured is sending alone.
type outbox struct {
	Graph   string  `json:"graph"` // its URL
	Numbers int     `json:"numbers"`
	Each    int     `json:"each"`   // messages of a number
	Pace    float64 `json:"pace"`   // of a number, in a second
	Parked  int     `json:"parked"` // messages of one more number, whose token is dead
}

// argument is how another process is told.
func (o outbox) argument() string {
	b, _ := json.Marshal(o) // numbers and a URL always have a form
	return string(b)
}

// senders puts the messages into the store and makes a Manager that sends them.
func (o outbox) senders(ctx context.Context, stored store) (*egress.Manager, error) {
	s, ok := stored.(*embedded.Store)
	if !ok {
		return nil, errors.New("messages are sent from the embedded store only")
	}
	var channels []parley.Channel
	for i := range o.Numbers {
		ch := number(strconv.Itoa(i))
		channels = append(channels, ch)
		if err := fill(ctx, s, ch, i, o.Each); err != nil {
			return nil, err
		}
	}
	if o.Parked > 0 {
		channels = append(channels, number(deadNumber))
		if err := fill(ctx, s, number(deadNumber), o.Numbers, o.Parked); err != nil {
			return nil, err
		}
	}
	client, err := meta.NewClient(meta.ClientConfig{BaseURL: o.Graph})
	if err != nil {
		return nil, err
	}
	return egress.New(egress.Config{
		Outbox: s, Receipts: s, Holder: "bench", Drain: time.Second,
		Provider: egress.Graph{Client: client, Account: func(parley.Channel) (meta.Account, bool) { return meta.Account{Token: "token"}, true }},
		Channels: func(context.Context) ([]parley.Channel, error) { return channels, nil },
		Pace: func(parley.Channel) egress.Pace {
			return egress.Pace{PerSecond: o.Pace, PairEvery: egress.PairEvery, PairBurst: egress.PairBurst}
		},
	})
}

func number(id string) parley.Channel {
	return parley.Channel{Brand: "bench", Kind: parley.WhatsApp, ID: id}
}

// fill commits a turn of n contacts of the k-th number, with a message to each.
func fill(ctx context.Context, s *embedded.Store, ch parley.Channel, k, n int) error {
	const group = 256
	for from := 0; from < n; from += group {
		var commits []parley.Commit
		for i := from; i < min(from+group, n); i++ {
			commits = append(commits, said(parley.Conversation{Channel: ch, Contact: parley.Contact(fmt.Sprintf("phone:49%03d%08d", k, i))}))
		}
		errs, err := s.Commit(ctx, commits)
		if err := errors.Join(append(errs, err)...); err != nil {
			return fmt.Errorf("fill the outbox: %w", err)
		}
	}
	return nil
}

// said is a first turn that says something.
func said(c parley.Conversation) parley.Commit {
	at := time.Now()
	next := parley.Snapshot{
		Conversation: c, Version: parley.Version{Number: 1, Token: parley.Token(binary.BigEndian.Uint64(random(8)))},
		Bot: "bench", Ordinal: 1, Last: at, Heard: parley.Heard{At: at},
	}
	return parley.Commit{Conversation: c, Next: next, Outbox: []parley.Outgoing{{
		ID: parley.NewID(at, [16]byte(random(16))), Conversation: c, Ordinal: 1, At: at, Heard: next.Heard,
		Send: parley.Send{Text: "Your order has left our kitchen, and will be with you in about twenty minutes."},
	}}}
}
