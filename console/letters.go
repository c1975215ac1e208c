package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parleychat/parley"
)

// Letters is what the API does with dead letters; the node implements it.
type Letters interface {
	// DeadLetters returns a page of those that the query means.
	DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error)
	// Retry puts a letter's event into the inbox, or its message into the outbox, and
	// tells those who are to handle it; parley.ErrNoLetter if it isn't there.
	Retry(ctx context.Context, id parley.ID) (parley.DeadLetter, error)
	// Drop removes a letter for good; parley.ErrNoLetter if it isn't there.
	Drop(ctx context.Context, id parley.ID) (parley.DeadLetter, error)
}

// DeadLetter is a dead letter without what is in it.
type DeadLetter struct {
	ID           string          `json:"id" doc:"Its id; that of the message, if it was one"`
	Time         time.Time       `json:"time" doc:"When it was given up"`
	Kind         parley.DeadKind `json:"kind" enum:"event,message" doc:"An event that could not be handled, or a message that could not be sent"`
	What         string          `json:"what" doc:"Which sort of event or message: message, postback, timer_fired, send and so on; empty if it can't be read"`
	Conversation string          `json:"conversation" doc:"brand/kind/channel/contact, as logs show it"`
	Cause        string          `json:"cause" doc:"Why: the bot's error, or the provider's words and its code"`
	Seq          uint64          `json:"seq,omitempty" doc:"Number that the event had in the inbox; absent of a message"`
}

// WholeDeadLetter is a dead letter with what is in it.
type WholeDeadLetter struct {
	DeadLetter
	Data json.RawMessage `json:"data" doc:"The event or the message as it is stored, texts included"`
}

func letterOf(d *parley.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: d.ID.String(), Time: d.At, Kind: d.Kind(), What: d.What(), Conversation: d.Conversation.String(),
		Cause: d.Cause, Seq: uint64(d.Seq),
	}
}

const pageDefault = 50 // letters

// letterBox is where requests about dead letters are handled.
type letterBox struct {
	letters Letters
	log     *slog.Logger
}

func (l letterBox) register(api huma.API) {
	operation := func(method, path, id, summary, description string, also ...int) huma.Operation {
		return huma.Operation{
			Method: method, Path: "/api/deadletters" + path, OperationID: id, Summary: summary, Description: description, Tags: []string{"deadletters"},
			MaxBodyBytes: bodyMax, Errors: append(also, http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusServiceUnavailable),
		}
	}
	huma.Register(api, operation(http.MethodGet, "", "list-dead-letters", "Dead letters, with their causes and without what is in them",
		"A letter is listed if it is meant by every parameter that is given."), l.list)
	huma.Register(api, operation(http.MethodGet, "/{id}", "get-dead-letter", "A dead letter, with what is in it", "",
		http.StatusNotFound), l.show)
	huma.Register(api, operation(http.MethodPost, "/{id}/retry", "retry-dead-letter", "Handle the event or send the message after all",
		"The letter is gone then. An event is handled as one that has just come in, out of its order: the bot sees that it is late. "+
			"A message is sent behind all that its conversation has decided so far, with attempts counted anew. "+
			"What fails again is a dead letter again: a message under the same id, an event under another.",
		http.StatusNotFound, http.StatusConflict), l.retry)
	huma.Register(api, operation(http.MethodDelete, "/{id}", "drop-dead-letter", "Remove a dead letter for good",
		"The node's log says which and by whom, and nothing of what was in it.", http.StatusNotFound), l.drop)
}

type listQuestion struct {
	Brand        string    `query:"brand" maxLength:"128" doc:"Of this brand"`
	Channel      string    `query:"channel" maxLength:"1024" example:"acme/messenger/1134713619900975" doc:"Of this channel: brand/kind/id"`
	Conversation string    `query:"conversation" maxLength:"1024" example:"acme/messenger/1134713619900975/user:7012" doc:"Of this conversation: brand/kind/channel/contact"`
	Kind         string    `query:"kind" enum:"event,message" doc:"Events only, or messages only"`
	Cause        string    `query:"cause" maxLength:"1024" doc:"Whose cause has this in it, as it is written"`
	Until        time.Time `query:"until" doc:"Given up at this time or before"`
	Order        string    `query:"order" enum:"newest,oldest" default:"newest" doc:"Which come first"`
	Limit        int       `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"How many at most"`
	Cursor       string    `query:"cursor" maxLength:"64" doc:"next of the page before"`
}

type listAnswer struct {
	Body struct {
		DeadLetters []DeadLetter `json:"dead_letters" nullable:"false" doc:"In the order that was asked for"`
		Next        string       `json:"next,omitempty" doc:"The cursor of the next page; absent if this is the last"`
	}
}

func (l letterBox) list(ctx context.Context, q *listQuestion) (*listAnswer, error) {
	query, err := q.query()
	if err != nil {
		return nil, err
	}
	query.Limit++ // to know whether there is another page; at the largest page it is seen from its being full
	found, err := l.letters.DeadLetters(ctx, query)
	if err != nil {
		return nil, problem(ctx, err)
	}
	var out listAnswer
	limit := query.Limit - 1
	if len(found) > limit || limit == parley.MaxDeadPage && len(found) == limit {
		found = found[:limit]
		out.Body.Next = cursorOf(found[limit-1].Place())
	}
	for i := range found {
		out.Body.DeadLetters = append(out.Body.DeadLetters, letterOf(&found[i]))
	}
	out.Body.DeadLetters = some(out.Body.DeadLetters)
	return &out, nil
}

func (q *listQuestion) query() (parley.DeadQuery, error) {
	query := parley.DeadQuery{
		Brand: parley.Brand(q.Brand), Kind: parley.DeadKind(q.Kind), Cause: q.Cause, Until: q.Until,
		Newest: q.Order != "oldest", Limit: cmp.Or(q.Limit, pageDefault),
	}
	refuse := func(parameter string, err error) error {
		return huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{Message: err.Error(), Location: "query." + parameter})
	}
	var err error
	if q.Channel != "" {
		if query.Channel, err = parley.ParseChannel(q.Channel); err != nil {
			return query, refuse("channel", err)
		}
	}
	if q.Conversation != "" {
		if query.Conversation, err = parley.ParseConversation(q.Conversation); err != nil {
			return query, refuse("conversation", err)
		}
	}
	if q.Cursor != "" {
		if query.After, err = parseCursor(q.Cursor); err != nil {
			return query, refuse("cursor", err)
		}
	}
	return query, nil
}

// cursorOf is a place as text: its time in ms, and its id.
func cursorOf(p parley.DeadPlace) string {
	return strconv.FormatInt(p.At.UnixMilli(), 10) + "." + p.ID.String()
}

func parseCursor(s string) (p parley.DeadPlace, err error) {
	ms, id, _ := strings.Cut(s, ".")
	at, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return p, fmt.Errorf("cursor %q: want next of the page before", s)
	}
	if p.ID, err = parley.ParseID(id); err != nil {
		return p, fmt.Errorf("cursor %q: want next of the page before", s)
	}
	p.At = time.UnixMilli(at).UTC()
	return p, nil
}

type letterQuestion struct {
	ID string `path:"id" maxLength:"36" example:"0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a11" doc:"Of the dead letter"`
}

func parseID(text string) (parley.ID, error) {
	id, err := parley.ParseID(text)
	if err != nil {
		return id, huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{Message: err.Error(), Location: "path.id"})
	}
	return id, nil
}

type wholeAnswer struct{ Body WholeDeadLetter }

func (l letterBox) show(ctx context.Context, q *letterQuestion) (*wholeAnswer, error) {
	id, err := parseID(q.ID)
	if err != nil {
		return nil, err
	}
	found, err := l.letters.DeadLetters(ctx, parley.DeadQuery{ID: id, Limit: 1})
	if err == nil && len(found) == 0 {
		err = parley.ErrNoLetter
	}
	if err != nil {
		return nil, problem(ctx, err)
	}
	w := WholeDeadLetter{DeadLetter: letterOf(&found[0]), Data: found[0].Data}
	if !json.Valid(w.Data) { // never written so; said rather than hidden
		w.Data, _ = json.Marshal(found[0].Data) // bytes always have a form
	}
	return &wholeAnswer{w}, nil
}

type deedQuestion struct {
	ID string `path:"id" maxLength:"36" example:"0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a11" doc:"Of the dead letter"`
	By string `header:"X-Operator" maxLength:"64" doc:"Who does it, for the node's log; it is not checked"`
}

type retryAnswer struct{ Body DeadLetter }

func (l letterBox) retry(ctx context.Context, q *deedQuestion) (*retryAnswer, error) {
	id, err := parseID(q.ID)
	if err != nil {
		return nil, err
	}
	d, err := l.letters.Retry(ctx, id)
	if err != nil {
		return nil, problem(ctx, remedied(err))
	}
	l.log.InfoContext(ctx, "dead letter retried", marks(q.By, &d)...)
	return &retryAnswer{letterOf(&d)}, nil
}

// remedied says what to do about a letter that can't be retried.
func remedied(err error) error {
	switch {
	case errors.Is(err, parley.ErrFormat):
		return fmt.Errorf("%w; the letter stays: retry it with a newer parley, or drop it", err)
	case errors.Is(err, parley.ErrAhead):
		return fmt.Errorf("%w; the letter stays: retry it when all members run the newer parley, or drop it", err)
	case errors.Is(err, parley.ErrConflict):
		return fmt.Errorf("%w; the letter stays: retry it in a moment", err)
	}
	return err
}

func (l letterBox) drop(ctx context.Context, q *deedQuestion) (*struct{}, error) {
	id, err := parseID(q.ID)
	if err != nil {
		return nil, err
	}
	d, err := l.letters.Drop(ctx, id)
	if err != nil {
		return nil, problem(ctx, err)
	}
	l.log.InfoContext(ctx, "dead letter dropped", marks(q.By, &d)...)
	return &struct{}{}, nil
}

// marks are what the log has of who did something with which letter: nothing of
// what is in it.
func marks(by string, d *parley.DeadLetter) []any {
	return []any{
		slog.String("by", cmp.Or(by, "admin token")), slog.String("id", d.ID.String()),
		slog.String("kind", string(d.Kind())), slog.String("channel", d.Conversation.Channel.String()),
	}
}
