package console

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parleychat/parley"
)

// Audit holds the store to what was acknowledged; the node implements it.
type Audit interface {
	// Account is how it stands, of all or of what was accepted in the last while.
	Account(ctx context.Context, since time.Duration) (parley.Account, error)
	// Reopen takes what is there as it is from now on, and returns how it stood.
	Reopen(ctx context.Context) (parley.Account, error)
}

// auditRoom is where requests about the audit are handled.
type auditRoom struct {
	audit Audit
	log   *slog.Logger
}

func (a auditRoom) register(api huma.API) {
	if a.audit == nil {
		return
	}
	operation := func(method, path, id, summary, description string) huma.Operation {
		return huma.Operation{
			Method: method, Path: "/api/audit" + path, OperationID: id, Summary: summary, Description: description, Tags: []string{"audit"},
			MaxBodyBytes: bodyMax, Errors: []int{http.StatusUnauthorized, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
		}
	}
	huma.Register(api, operation(http.MethodGet, "", "get-audit", "Whether all that was acknowledged is accounted for",
		"acknowledged = effected + duplicate + pending + spooled + quarantined + dead, read from the store at one moment. "+
			"What is spooled is on disks of members. If it doesn't add up, the events that are missing are named."), a.show)
	huma.Register(api, operation(http.MethodPost, "/reopen", "reopen-audit", "Take what is there as it is from now on",
		"For when it is known why something is missing: it is missed no longer. The answer is how it stood until then; the node's log has it, too."), a.reopen)
}

type auditQuestion struct {
	SinceSeconds int `query:"since_seconds" minimum:"0" maximum:"172800" default:"0" doc:"Only what was accepted in the last so many seconds, rounded up to the 5 minutes that it began in; 0: all there ever was. Receipts have no time, and are in all only"`
}

type auditAnswer struct{ Body parley.Account }

func (a auditRoom) show(ctx context.Context, q *auditQuestion) (*auditAnswer, error) {
	account, err := a.audit.Account(ctx, time.Duration(q.SinceSeconds)*time.Second)
	if err != nil {
		return nil, problem(ctx, err)
	}
	return &auditAnswer{account}, nil
}

type reopenQuestion struct {
	By string `header:"X-Operator" maxLength:"64" doc:"Who does it, for the node's log; it is not checked"`
}

func (a auditRoom) reopen(ctx context.Context, q *reopenQuestion) (*auditAnswer, error) {
	account, err := a.audit.Reopen(ctx)
	if err != nil {
		return nil, problem(ctx, err)
	}
	t := &account.Whole
	a.log.WarnContext(ctx, "audit: books reopened", slog.String("by", cmp.Or(q.By, "admin token")),
		slog.Int64("missing", t.Missing), slog.Int64("excess", t.Excess), slog.Int64("missing_letters", t.Letters))
	return &auditAnswer{account}, nil
}
