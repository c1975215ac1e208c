package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/audit"
)

// newAuditor makes the auditor of the node's store. Members that count say so by the
// format that they read.
func (n *Node) newAuditor() *audit.Auditor {
	cfg := audit.Config{
		Store: n.store, Every: n.cfg.AuditEvery, Absent: n.uncounting,
		Now: n.now, Logger: n.log.With(slog.String("part", "audit")), Registerer: n.registry,
	}
	if n.spool != nil {
		cfg.Spooled = n.spooledByAll
	}
	if n.cfg.kind() == storePostgres {
		cfg.Settle = leftFor // others may write into the database
	}
	return audit.New(cfg)
}

// spooled is how many updates are on this node's disk only.
func (n *Node) spooled() int {
	if n.spool == nil {
		return 0
	}
	return n.spool.State().Updates
}

// spooledByAll adds up what is on the disks of all members, and names those that
// don't say.
func (n *Node) spooledByAll(ctx context.Context) (sum int, silent []string) {
	if n.members == nil {
		return n.spooled(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	standings := n.host.Inquire(ctx)
	for _, m := range n.view().Members() {
		s, ok := standings[m.Addr]
		if !ok {
			silent = append(silent, m.Name)
		}
		sum += s.Spooled
	}
	return sum, silent
}

// uncounting names the members that run a program which doesn't count.
func (n *Node) uncounting() (names []string) {
	for _, m := range n.view().Members() {
		if m.Format < parley.FormatBooks {
			names = append(names, m.Name)
		}
	}
	return names
}

// auditRoom is the audit as the admin API shows it.
type auditRoom struct{ n *Node }

// Account is the auditor's.
func (r auditRoom) Account(ctx context.Context, since time.Duration) (parley.Account, error) {
	if !r.n.serves() {
		return parley.Account{}, errStarting
	}
	return r.n.auditor.Account(ctx, since)
}

// Reopen is the auditor's.
func (r auditRoom) Reopen(ctx context.Context) (parley.Account, error) {
	if !r.n.serves() {
		return parley.Account{}, errStarting
	}
	return r.n.auditor.Reopen(ctx)
}
