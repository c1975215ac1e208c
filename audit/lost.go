package audit

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/parleychat/parley"
)

const (
	// namesMax is how many lost events are named.
	namesMax = 100
	// rowsMax is how many pending rows of a conversation are looked at. Of one that has
	// more nothing is said to be lost.
	rowsMax = 10_000
	// mergesMax is how many steps a conversation is followed to what it was merged into.
	mergesMax = 64
)

// name names the events of the lines that miss some, and says how many it has found:
// those that were accepted, don't wait, and whose key isn't among those seen. What is
// read takes more than a moment, so each of them is looked at twice: an event that had
// its turn in between is seen at the second look.
func (a *Auditor) name(ctx context.Context, g *parley.Ledger, meant func(*parley.AuditLine) bool) (named []parley.LostEvent, n int64, _ error) {
	for i := range g.Lines {
		l := &g.Lines[i]
		if !meant(l) || l.Sort != parley.AuditEvents || l.Bucket == parley.BucketBefore || l.Missing() <= 0 {
			continue
		}
		lost, err := a.lost(ctx, l)
		if err != nil {
			return named, n, fmt.Errorf("audit: name what is missing: %w", err)
		}
		n += int64(len(lost))
		for _, e := range lost[:min(len(lost), namesMax-len(named))] {
			named = append(named, parley.LostEvent{
				Conversation: e.Conversation.String(), Key: hex.EncodeToString(e.Key[:]), Accepted: parley.BucketBegin(l.Bucket),
			})
		}
	}
	return named, n, nil
}

// lost are the events of a line that are nowhere.
func (a *Auditor) lost(ctx context.Context, l *parley.AuditLine) ([]parley.Accepted, error) {
	by := map[parley.Conversation][]parley.Accepted{}
	var order []parley.Conversation
	err := a.cfg.Store.Accepted(ctx, l.Bucket, func(some []parley.Accepted) bool {
		for _, e := range some {
			if e.Conversation.Channel.Brand != l.Brand {
				continue
			}
			if by[e.Conversation] == nil {
				order = append(order, e.Conversation)
			}
			by[e.Conversation] = append(by[e.Conversation], e)
		}
		return ctx.Err() == nil
	})
	var lost []parley.Accepted
	for _, c := range order {
		if err != nil {
			break
		}
		left := by[c]
		for range 2 {
			if left, err = a.nowhere(ctx, c, left); err != nil || len(left) == 0 {
				break
			}
		}
		lost = append(lost, left...)
	}
	return lost, err
}

// nowhere are those of a conversation's events that neither wait nor were seen.
func (a *Auditor) nowhere(ctx context.Context, c parley.Conversation, events []parley.Accepted) ([]parley.Accepted, error) {
	loaded, err := a.load(ctx, c)
	if err != nil || loaded.More {
		return nil, err
	}
	there := map[parley.Token]bool{}
	for i := range loaded.Pending {
		there[loaded.Pending[i].Token] = true
	}
	seen := map[parley.EventKey]bool{}
	for _, k := range loaded.Snapshot.Seen {
		seen[k.Key] = true
	}
	var left []parley.Accepted
	var keys []parley.EventKey
	for _, e := range events {
		if !there[e.Token] && !seen[e.Key] {
			left, keys = append(left, e), append(keys, e.Key)
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	older, err := a.cfg.Store.Older(ctx, loaded.Snapshot.Conversation, keys)
	return slices.DeleteFunc(left, func(e parley.Accepted) bool { return older[e.Key] }), err
}

// load loads a conversation, or what it was merged into.
func (a *Auditor) load(ctx context.Context, c parley.Conversation) (parley.Loaded, error) {
	for range mergesMax {
		loaded, err := a.cfg.Store.Load(ctx, c, rowsMax)
		if err != nil || loaded.Snapshot.MergedInto == "" {
			return loaded, err
		}
		c.Contact = loaded.Snapshot.MergedInto
	}
	return parley.Loaded{More: true}, nil
}
