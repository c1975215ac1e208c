package console

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parleychat/parley"
)

// Conversations shows what is stored of a conversation; the node implements it.
type Conversations interface {
	// Conversation tells all that there is of one, whether there is one or not.
	Conversation(ctx context.Context, c parley.Conversation, p HistoryPage) (Conversation, error)
}

// HistoryPage is a part of a history.
type HistoryPage struct {
	From  uint64 // version of the first record; 0 means the last records
	Limit int    // records
}

// After is the version behind which the page of a history begins that ends with version.
func (p HistoryPage) After(version uint64) uint64 {
	switch limit := uint64(max(p.Limit, 0)); {
	case p.From > 0:
		return p.From - 1
	case version > limit:
		return version - limit
	}
	return 0
}

// Conversation is what is stored of a conversation. Texts are in it.
type Conversation struct {
	Conversation string              `json:"conversation" doc:"brand/kind/channel/contact, as logs show it"`
	Now          time.Time           `json:"now" doc:"By the clock of the node that answers"`
	Version      uint64              `json:"version" doc:"How many commits there were; 0: none, so there is no conversation yet"`
	Bot          string              `json:"bot,omitempty" doc:"That wrote the state"`
	BotVersion   int                 `json:"bot_version,omitempty" doc:"Of the state's schema"`
	Behavior     string              `json:"behavior,omitempty" doc:"The bot's behaviour that is next; absent: its first"`
	State        json.RawMessage     `json:"state,omitempty" doc:"The behaviour's own; in base64 if it isn't JSON"`
	Speaker      parley.Speaker      `json:"speaker,omitempty" doc:"Who has the word; absent: the bot"`
	Attributes   []Attribute         `json:"attributes" nullable:"false" doc:"What is known of the contact"`
	Tags         []string            `json:"tags" nullable:"false" doc:"Of the contact"`
	Calls        []string            `json:"calls" nullable:"false" doc:"Names of calls to services under way"`
	Timers       []ConversationTimer `json:"timers" nullable:"false" doc:"Not due yet"`
	Pending      []PendingEvent      `json:"pending" nullable:"false" doc:"Events that have not taken effect, the first of them"`
	Outbox       []UnsentMessage     `json:"outbox" nullable:"false" doc:"Messages that are not sent, the first of them"`
	History      []json.RawMessage   `json:"history" nullable:"false" doc:"Records of the last commits, or from the one asked for on, oldest first"`
	MergedInto   string              `json:"merged_into,omitempty" doc:"The conversation that this one has become part of"`
}

// Attribute is something that is known of a contact.
type Attribute struct {
	Name  string `json:"name" doc:"As the bot calls it"`
	Value string `json:"value" doc:"What it is"`
}

// ConversationTimer is a live timer.
type ConversationTimer struct {
	Name string    `json:"name" doc:"As the bot calls it"`
	Due  time.Time `json:"due" doc:"By the store's clock"`
}

// PendingEvent is an event in the inbox.
type PendingEvent struct {
	Seq      uint64          `json:"seq" doc:"Its number in the inbox"`
	Received time.Time       `json:"received" doc:"When it was stored"`
	Event    json.RawMessage `json:"event" doc:"As it is stored, texts included"`
}

// UnsentMessage is a message in the outbox.
type UnsentMessage struct {
	ID      string          `json:"id" doc:"Of the message; that of its dead letter, should it become one"`
	Time    time.Time       `json:"time" doc:"When the bot decided it"`
	Message json.RawMessage `json:"message" doc:"As it is stored, texts included"`
}

// archive is where requests about conversations are handled.
type archive struct{ conversations Conversations }

func (a archive) register(api huma.API) {
	huma.Register(api, huma.Operation{
		Method: http.MethodGet, Path: "/api/conversation", OperationID: "get-conversation", Tags: []string{"conversations"},
		Summary:      "What is stored of a conversation: state, timers, pending events, unsent messages, history",
		Description:  "Texts are in it. One that there is not has version 0.",
		MaxBodyBytes: bodyMax, Errors: []int{http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, a.show)
}

type conversationQuestion struct {
	Conversation string `query:"conversation" required:"true" maxLength:"1024" example:"acme/messenger/1134713619900975/user:7012" doc:"brand/kind/channel/contact, as logs show it"`
	History      int    `query:"history" minimum:"0" maximum:"200" default:"20" doc:"How many records of the history at most"`
	From         uint64 `query:"from" default:"0" doc:"Version of the first of these records; 0: the last ones"`
}

type conversationAnswer struct{ Body Conversation }

func (a archive) show(ctx context.Context, q *conversationQuestion) (*conversationAnswer, error) {
	id, err := parley.ParseConversation(q.Conversation)
	if err != nil {
		return nil, unreadable(err)
	}
	c, err := a.conversations.Conversation(ctx, id, HistoryPage{From: q.From, Limit: q.History})
	if err != nil {
		return nil, problem(ctx, err)
	}
	c.Attributes, c.Tags, c.Calls = some(c.Attributes), some(c.Tags), some(c.Calls)
	c.Timers, c.Pending, c.Outbox, c.History = some(c.Timers), some(c.Pending), some(c.Outbox), some(c.History)
	return &conversationAnswer{c}, nil
}

// unreadable answers that a conversation is written wrongly.
func unreadable(err error) error {
	return huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{Message: err.Error(), Location: "query.conversation"})
}
