package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

const (
	demoToken      = "the demonstration's own" // it is on loopback, for seconds
	demoTokenFile  = "admin-token"
	auditEveryDemo = 300 * time.Millisecond
	auditWithin    = 5 * time.Second
	brokenMax      = 5 // of the moments that didn't add up, told
)

// auditReport is what the nodes' own audit said, all along.
type auditReport struct {
	Moments    int               `json:"moments"`    // at which a node told
	AddedUp    int               `json:"added_up"`   // of them
	Unanswered int               `json:"unanswered"` // times that a node didn't tell: it was killed, or its database was
	SpooledMax int64             `json:"spooled_max"`
	Last       parley.AuditTerms `json:"last"` // at the end
	broken     []string
}

// auditWatch asks the nodes in turn.
type auditWatch struct {
	mu     sync.Mutex
	report auditReport
	fleet  *fleet
	turn   int
}

// run asks until ctx ends.
func (w *auditWatch) run(ctx context.Context) {
	for nap(ctx, auditEveryDemo) {
		w.ask(ctx)
	}
}

// ask asks the next node.
func (w *auditWatch) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, auditWithin)
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.fleet.children[w.turn%len(w.fleet.children)]
	w.turn++
	client := adminClient{base: "http://" + c.admin, token: demoToken, by: "demo", http: http.DefaultClient}
	var a parley.Account
	if _, err := client.call(ctx, http.MethodGet, "/api/audit", nil, &a); err != nil {
		w.report.Unanswered++
		return
	}
	r := &w.report
	r.Moments++
	r.Last, r.SpooledMax = a.Whole, max(r.SpooledMax, a.Whole.Spooled)
	t := &a.Whole
	equal := t.Acknowledged == t.Effected+t.Duplicate+t.Pending+t.Spooled+t.Quarantined+t.Dead
	if a.AddsUp && equal {
		r.AddedUp++
	} else if len(r.broken) < brokenMax {
		r.broken = append(r.broken, fmt.Sprintf("the audit didn't add up: %s: %+v, lost %+v", conclusion(&a), a.Whole, a.Lost))
	}
}

// end asks every node once more: none is disturbed any more.
func (w *auditWatch) end(ctx context.Context) error {
	before := w.report.Moments
	for range w.fleet.children {
		w.ask(ctx)
	}
	if w.report.Moments == before {
		return errors.New("no node tells its audit at the end")
	}
	return nil
}

// judgeAudit adds what the audit said to the report. What Meta knows of must be among
// what was counted, unless the books were begun anew amid it.
func (r *report) judgeAudit(a auditReport) {
	r.Audit = &a
	broken := a.broken
	if r.MovedItems == 0 && a.Last.Acknowledged < int64(r.Acked) {
		broken = append(broken, fmt.Sprintf("the audit counts %d acknowledged, Meta %d messages alone", a.Last.Acknowledged, r.Acked))
	}
	if a.Moments == 0 {
		broken = append(broken, "no node ever told its audit")
	}
	r.Broken = append(r.Broken, broken...)
	r.Clean = r.Clean && len(broken) == 0
}

// showMore adds the lines of what isn't always there.
func (r *report) showMore(line func(name string, value any, note string)) {
	r.Upgrade.show(line)
	r.Audit.show(line)
	r.Calls.show(line)
}

func (a *auditReport) show(line func(name string, value any, note string)) {
	line("audit", fmt.Sprintf("%d of %d", a.AddedUp, a.Moments), fmt.Sprintf("moments at which the nodes' own account added up; %d acknowledged, %d effected, %d duplicate, %d dead, %d spooled at most",
		a.Last.Acknowledged, a.Last.Effected, a.Last.Duplicate, a.Last.Dead, a.SpooledMax))
}
