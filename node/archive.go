package node

import (
	"context"
	"encoding/json"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

// archive shows what is stored of conversations.
type archive struct{ n *Node }

// archiveLimit is how many pending events and unsent messages of a conversation are
// shown.
const archiveLimit = 50

// Conversation is what the store has of one. Its parts are read one after another,
// so that a turn may fall between them.
func (a archive) Conversation(ctx context.Context, id parley.Conversation, p console.HistoryPage) (console.Conversation, error) {
	if !a.n.serves() {
		return console.Conversation{}, errStarting
	}
	store := a.n.store
	loaded, err := store.Load(ctx, id, archiveLimit)
	if err != nil {
		return console.Conversation{}, err
	}
	c := storedConversation(&loaded)
	c.Now = a.n.time()
	records, err := store.History(ctx, id, p.After(c.Version), p.Limit)
	if err != nil {
		return c, err
	}
	for _, r := range records {
		c.History = append(c.History, r)
	}
	unsent, err := store.Unsent(ctx, id, archiveLimit)
	if err != nil {
		return c, err
	}
	for i := range unsent {
		m := &unsent[i]
		content, err := parley.EncodeEffect(m.Send)
		if err != nil {
			return c, err
		}
		c.Outbox = append(c.Outbox, console.UnsentMessage{ID: m.ID.String(), Time: m.At, Message: content})
	}
	return c, nil
}

func storedConversation(l *parley.Loaded) console.Conversation {
	s := &l.Snapshot
	c := console.Conversation{
		Conversation: s.Conversation.String(), Version: s.Version.Number, Bot: s.Bot, BotVersion: s.BotVersion, Behavior: s.Behavior,
		State: stateOf(s.State), Speaker: s.Speaker, Tags: s.Tags,
	}
	if s.MergedInto != "" {
		c.MergedInto = parley.Conversation{Channel: s.Conversation.Channel, Contact: s.MergedInto}.String()
	}
	for _, a := range s.Attributes {
		c.Attributes = append(c.Attributes, console.Attribute{Name: a.Name, Value: a.Value})
	}
	for _, call := range s.Calls {
		c.Calls = append(c.Calls, call.Name)
	}
	for _, t := range s.Timers {
		c.Timers = append(c.Timers, console.ConversationTimer{Name: t.Name, Due: t.Due})
	}
	for i := range l.Pending {
		p := &l.Pending[i]
		c.Pending = append(c.Pending, console.PendingEvent{Seq: uint64(p.Seq), Received: p.Received, Event: p.Data})
	}
	return c
}

// stateOf is a state as JSON.
func stateOf(state []byte) json.RawMessage {
	if len(state) == 0 || json.Valid(state) {
		return state
	}
	b, _ := json.Marshal(state) // in base64; bytes always have such a form
	return b
}
