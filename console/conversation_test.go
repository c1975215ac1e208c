package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

// The operator of the tests has one conversation, of user 2.

func (o *operator) Conversation(ctx context.Context, c parley.Conversation, p console.HistoryPage) (console.Conversation, error) {
	at := time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC)
	if c.Contact != "user:2" {
		return console.Conversation{Conversation: c.String(), Now: at}, o.answer(ctx)
	}
	whole := console.Conversation{
		Conversation: c.String(), Now: at, Version: 7, Bot: "pizza", BotVersion: 1, Behavior: "paying", State: json.RawMessage(`{"pizza":"Salami"}`),
		Speaker: parley.SpeakerPerson, Attributes: []console.Attribute{{Name: "city", Value: "Ulm"}}, Tags: []string{"vip"}, Calls: []string{"price"},
		Timers:  []console.ConversationTimer{{Name: "reminder", Due: at.Add(time.Hour)}},
		Pending: []console.PendingEvent{{Seq: 9, Received: at, Event: json.RawMessage(`{"kind":"message","input":{"text":"hello"}}`)}},
		Outbox:  []console.UnsentMessage{{ID: "0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a11", Time: at, Message: json.RawMessage(`{"effect":"send","value":{"text":"hi"}}`)}},
	}
	for v := p.After(whole.Version) + 1; v <= whole.Version && len(whole.History) < p.Limit; v++ {
		whole.History = append(whole.History, json.RawMessage(fmt.Sprintf(`{"version":%d}`, v)))
	}
	return whole, o.answer(ctx)
}

func TestConversation(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		query    string
		operator *operator
		status   int
	}{
		"conversation":             {"?conversation=acme/messenger/1/user:2", two(), 200},
		"conversation-history":     {"?conversation=acme/messenger/1/user:2&history=1", two(), 200},
		"conversation-from":        {"?conversation=acme/messenger/1/user:2&history=3&from=2", two(), 200},
		"conversation-none":        {"?conversation=acme/messenger/1/user:3", two(), 200},
		"conversation-malformed":   {"?conversation=acme/telegram/1/user:2", two(), 422},
		"conversation-missing":     {"", two(), 422},
		"conversation-much":        {"?conversation=acme/messenger/1/user:2&history=201", two(), 422},
		"conversation-unavailable": {"?conversation=acme/messenger/1/user:2", &operator{err: fmt.Errorf("load: %w", parley.ErrUnavailable)}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handler(t, console.Config{Token: token, Operator: row.operator, Letters: row.operator, Conversations: row.operator})
			w := send(t, h, "GET", "/api/conversation"+row.query, "")
			if w.Code != row.status {
				t.Errorf("status %d, want %d", w.Code, row.status)
			}
			golden(t, name+".json", indented(t, w.Body.Bytes()))
		})
	}
}
