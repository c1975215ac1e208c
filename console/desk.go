package console

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parleychat/parley"
)

// desk is where requests are handled.
type desk struct {
	operator Operator
	log      *slog.Logger
}

func (d desk) register(api huma.API) {
	operation := func(method, path, id, summary string, also ...int) huma.Operation {
		return huma.Operation{
			Method: method, Path: "/api/cluster/" + path, OperationID: id, Summary: summary, Tags: []string{"cluster"},
			MaxBodyBytes: bodyMax, Errors: append(also, http.StatusUnauthorized, http.StatusUnprocessableEntity, http.StatusServiceUnavailable),
		}
	}
	huma.Register(api, operation(http.MethodGet, "members", "list-members", "The members, as this node sees them"), d.members)
	huma.Register(api, operation(http.MethodGet, "status", "get-status", "How the cluster is, with what every member tells of itself"), d.status)
	huma.Register(api, operation(http.MethodGet, "where", "locate-conversation", "Who serves a conversation"), d.where)
	drain := operation(http.MethodPost, "drain", "drain-member", "Make a member give up what it owns", http.StatusNotFound, http.StatusBadGateway)
	drain.DefaultStatus = http.StatusAccepted
	drain.Description = "The answer comes once it has begun. How far it is, the status of the member says: it holds nothing at the end, or is gone."
	huma.Register(api, drain, d.drain)
}

type membersAnswer struct {
	Body struct {
		Members []Member `json:"members" nullable:"false" doc:"By name"`
	}
}

func (d desk) members(ctx context.Context, _ *struct{}) (*membersAnswer, error) {
	members, err := d.operator.Members(ctx)
	if err != nil {
		return nil, problem(ctx, err)
	}
	var out membersAnswer
	for _, m := range members {
		out.Body.Members = append(out.Body.Members, m.whole())
	}
	slices.SortFunc(out.Body.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	out.Body.Members = some(out.Body.Members)
	return &out, nil
}

type statusAnswer struct{ Body Status }

func (d desk) status(ctx context.Context, _ *struct{}) (*statusAnswer, error) {
	s, err := d.operator.Status(ctx)
	if err != nil {
		return nil, problem(ctx, err)
	}
	s.Members = some(slices.Clone(s.Members))
	for i := range s.Members {
		s.Members[i].Member = s.Members[i].whole()
	}
	slices.SortFunc(s.Members, func(a, b MemberStatus) int { return cmp.Compare(a.Name, b.Name) })
	s.Warnings = some(append(Warnings(&s), s.Warnings...))
	return &statusAnswer{s}, nil
}

type whereQuestion struct {
	Conversation string `query:"conversation" required:"true" maxLength:"1024" example:"acme/messenger/1134713619900975/user:7012" doc:"brand/kind/channel/contact, as logs show it"`
}

type whereAnswer struct{ Body Place }

func (d desk) where(ctx context.Context, q *whereQuestion) (*whereAnswer, error) {
	c, err := parley.ParseConversation(q.Conversation)
	if err != nil {
		return nil, unreadable(err)
	}
	p, err := d.operator.Where(ctx, c)
	if err != nil {
		return nil, problem(ctx, err)
	}
	for _, m := range []**Member{&p.Owner, &p.Sender} {
		if *m != nil {
			whole := (*m).whole()
			*m = &whole
		}
	}
	return &whereAnswer{p}, nil
}

type drainRequest struct {
	Body struct {
		Member string `json:"member" required:"false" maxLength:"128" doc:"Name of a member; empty: the one that answers this request"`
	}
}

type drainAnswer struct {
	Body struct {
		Member string `json:"member" doc:"As it was asked for"`
	}
}

func (d desk) drain(ctx context.Context, q *drainRequest) (*drainAnswer, error) {
	if err := d.operator.Drain(ctx, q.Body.Member); err != nil {
		return nil, problem(ctx, err)
	}
	d.log.InfoContext(ctx, "drain asked for", slog.String("member", cmp.Or(q.Body.Member, "this node")))
	var out drainAnswer
	out.Body.Member = q.Body.Member
	return &out, nil
}

// problem gives an operator's error its status. Its text is shown: it names steps
// and members, never secrets or messages.
func problem(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrNoMember), errors.Is(err, parley.ErrNoLetter):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, parley.ErrConflict), errors.Is(err, parley.ErrFormat), errors.Is(err, parley.ErrAhead):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, ErrSilent):
		return huma.Error502BadGateway(err.Error())
	case errors.Is(err, parley.ErrUnavailable), errors.Is(err, parley.ErrFull), errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		return huma.Error503ServiceUnavailable(err.Error())
	}
	return huma.Error500InternalServerError(err.Error())
}

// whole is m without a list that is null in JSON.
func (m *Member) whole() Member {
	w := *m
	w.Roles = some(w.Roles)
	return w
}

// some is s, or an empty list for none, which is [] in JSON and not null.
func some[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
