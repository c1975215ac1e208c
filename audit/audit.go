// Package audit holds a store to its word: what was acknowledged must have taken
// effect, be a repeat, wait, or lie aside; at every moment, for each brand.
//
// A store counts in the transaction of what is counted, and shows all counts beside
// what is there, at one moment (parley.Ledger). The [Auditor] looks at that now and
// then, shows it as metrics, says in the log if it doesn't add up, and names the
// events that are missing. It also keeps the books: opens them once all members
// count, closes them while one doesn't, and has forgotten what is settled.
//
// The package imports the root package only. It starts nothing: Run blocks.
package audit

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// Store is what an auditor needs of a store.
type Store interface {
	// Ledger reads all counts, and what is there, at one moment. Lines are in the order
	// of their keys; those in which all is 0 may be left out.
	Ledger(ctx context.Context) (parley.Ledger, error)
	// OpenBooks makes the ledger add up that was read as as, and says that everybody
	// counts from then on; ErrConflict if the books were opened or closed since.
	OpenBooks(ctx context.Context, as parley.Ledger) error
	// CloseBooks says that somebody writes who doesn't count.
	CloseBooks(ctx context.Context) error
	// Accepted shows the events that were accepted in a bucket, as long as each says so.
	Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error
	// TidyBooks forgets the events that were accepted in settled buckets, and in those
	// before one, and makes of these BucketBefore.
	TidyBooks(ctx context.Context, settled []int64, before int64) error

	Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error)
	Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error)
}

// DefaultEvery is [Config].Every unless configured otherwise.
const DefaultEvery = 15 * time.Second

const (
	// share is the part of its time that an auditor may take: a large backlog takes
	// long to count, and is then counted more seldom.
	share = 20
	// lookTimeout bounds one look, the naming of what is missing included.
	lookTimeout = 2 * time.Minute
)

// Config is what an auditor is made of. Only Store is needed.
type Config struct {
	Store Store
	Every time.Duration // between two looks; default DefaultEvery
	// Absent names the members that don't count: programs of before. nil: none.
	Absent func() []string
	// Settle is how long nobody must have been absent before the books are opened: one
	// who isn't seen for a moment may still write.
	Settle time.Duration
	// Spooled is how many updates were acknowledged and are on disks of members only,
	// and which members didn't tell. nil: none.
	Spooled func(context.Context) (n int, silent []string)

	Now        func() time.Time // the system's clock unless set
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Auditor audits a store. It is safe for concurrent use.
type Auditor struct {
	cfg     Config
	metrics *metrics
	present time.Time      // since when nobody has been absent; zero: somebody is
	settled map[int64]bool // buckets that have been
	said    string         // of the last look, so that the log says it once
}

// New makes an auditor.
func New(cfg Config) *Auditor {
	cfg.Every = cmp.Or(cfg.Every, DefaultEvery)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Absent == nil {
		cfg.Absent = func() []string { return nil }
	}
	if cfg.Spooled == nil {
		cfg.Spooled = func(context.Context) (int, []string) { return 0, nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	return &Auditor{cfg: cfg, metrics: newMetrics(cfg.Registerer), settled: map[int64]bool{}}
}

// Run looks again and again until ctx ends.
func (a *Auditor) Run(ctx context.Context) error {
	next := time.NewTimer(0) //nolint:forbidigo // the auditor's one clock
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		began := time.Now() //nolint:forbidigo // how long it takes is what is measured
		if err := a.Look(ctx); err != nil && ctx.Err() == nil {
			a.metrics.failures.Inc()
			a.cfg.Logger.WarnContext(ctx, "audit of the store", slog.Any("error", err))
		}
		next.Reset(max(a.cfg.Every, share*time.Since(began))) //nolint:forbidigo // as above
	}
}

// Look looks once: it opens or closes the books, tells what it sees, and has
// forgotten what is settled. It is called by one goroutine at a time.
func (a *Auditor) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	g, err := a.ledger(ctx)
	if err != nil {
		return err
	}
	if err := a.keep(ctx, &g); err != nil {
		return err
	}
	account, err := a.judge(ctx, &g, 0)
	if err != nil {
		return err
	}
	a.metrics.show(&account)
	a.tell(ctx, &account)
	return a.tidy(ctx, &g)
}

func (a *Auditor) ledger(ctx context.Context) (parley.Ledger, error) {
	g, err := a.cfg.Store.Ledger(ctx)
	if err != nil {
		return g, fmt.Errorf("audit: %w", err)
	}
	g.Compact(horizon(&g))
	return g, nil
}

// horizon is the bucket before which there is only one.
func horizon(g *parley.Ledger) int64 { return parley.BucketOf(g.At.Add(-parley.AuditFor)) }

// keep opens the books once nobody has been absent for long enough, and closes them
// as soon as somebody is.
func (a *Auditor) keep(ctx context.Context, g *parley.Ledger) error {
	now, absent := a.cfg.Now(), a.cfg.Absent()
	switch {
	case len(absent) > 0:
		a.present = time.Time{}
		if g.Opened.IsZero() {
			return nil
		}
		a.cfg.Logger.WarnContext(ctx, "audit: not all is counted while older programs run", slog.Any("members", absent))
		g.Opened = time.Time{}
		return a.cfg.Store.CloseBooks(ctx)
	case a.present.IsZero():
		a.present = now
	}
	if !g.Opened.IsZero() || now.Sub(a.present) < a.cfg.Settle {
		return nil
	}
	return a.open(ctx, g)
}

// open opens the books with what is there, and reads them anew.
func (a *Auditor) open(ctx context.Context, g *parley.Ledger) error {
	missing := g.Sum(nil)
	if err := a.cfg.Store.OpenBooks(ctx, *g); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	a.cfg.Logger.InfoContext(ctx, "audit: all is counted from now on; what was there is taken as it is",
		slog.Int64("missing", missing.Missing), slog.Int64("excess", missing.Excess))
	again, err := a.ledger(ctx)
	*g = again
	return err
}

// Reopen opens the books anew, so that what is missing is no longer missed: once it
// is known why. It returns what was the account until then.
func (a *Auditor) Reopen(ctx context.Context) (parley.Account, error) {
	g, err := a.ledger(ctx)
	if err != nil {
		return parley.Account{}, err
	}
	account, err := a.judge(ctx, &g, 0)
	if err != nil || g.Opened.IsZero() {
		return account, err
	}
	return account, a.open(ctx, &g)
}

// Account is how it stands: of all there ever was, or of what was accepted in the
// last while if since isn't 0, in whole buckets.
func (a *Auditor) Account(ctx context.Context, since time.Duration) (parley.Account, error) {
	g, err := a.ledger(ctx)
	if err != nil {
		return parley.Account{}, err
	}
	return a.judge(ctx, &g, since)
}

func (a *Auditor) judge(ctx context.Context, g *parley.Ledger, since time.Duration) (parley.Account, error) {
	account := parley.Account{At: g.At, Brands: []parley.BrandAudit{}, Lost: []parley.LostEvent{}, Silent: []string{}}
	from := int64(parley.BucketBefore)
	if since > 0 {
		from = parley.BucketOf(g.At.Add(-min(since, parley.AuditFor)))
		begin := parley.BucketBegin(from)
		account.Since = &begin
	}
	meant := func(l *parley.AuditLine) bool { return l.Bucket >= from }
	account.Whole = g.Sum(meant)
	account.Receipts = g.Sum(func(l *parley.AuditLine) bool { return l.Sort == parley.AuditReceipts && meant(l) })
	on, silent := a.cfg.Spooled(ctx)
	spooled := int64(on)
	account.Silent = append(account.Silent, silent...)
	account.Whole.Acknowledged += spooled
	account.Whole.Spooled = spooled
	for _, brand := range brandsOf(g) {
		b := parley.BrandAudit{Brand: brand, AuditTerms: g.Sum(func(l *parley.AuditLine) bool { return l.Brand == brand && meant(l) })}
		b.Letters = g.MissingLetters(brand)
		account.Whole.Letters += max(b.Letters, -b.Letters)
		account.Brands = append(account.Brands, b)
	}
	if g.Opened.IsZero() {
		account.Why = a.why()
		return account, nil
	}
	account.Opened, account.AddsUp = &g.Opened, account.Whole.AddsUp()
	account.Unnamed = account.Whole.Missing
	if account.Whole.Missing > 0 {
		lost, n, err := a.name(ctx, g, meant)
		if err != nil {
			return account, err
		}
		account.Lost = append(account.Lost, lost...)
		account.Unnamed = max(account.Whole.Missing-n, 0)
	}
	return account, nil
}

func (a *Auditor) why() string {
	if absent := a.cfg.Absent(); len(absent) > 0 {
		return "these members run a program that doesn't count: " + strings.Join(absent, ", ")
	}
	return "the books are not open yet: for a while all members must have counted"
}

// brandsOf lists the brands, in order, but for the one that is none.
func brandsOf(g *parley.Ledger) (all []parley.Brand) {
	for i := range g.Lines {
		if b := g.Lines[i].Brand; b != "" && !slices.Contains(all, b) {
			all = append(all, b)
		}
	}
	return all
}

// tell logs what doesn't add up, once, and once more when it does again.
func (a *Auditor) tell(ctx context.Context, account *parley.Account) {
	said := ""
	if t := &account.Whole; account.Opened != nil && !account.AddsUp {
		said = fmt.Sprintf("%d missing, %d too many, %d dead letters missing", t.Missing, t.Excess, t.Letters)
	}
	if said == a.said {
		return
	}
	a.said = said
	if said == "" {
		a.cfg.Logger.InfoContext(ctx, "audit: what was acknowledged adds up again")
		return
	}
	args := []any{slog.String("what", said), slog.Int64("unnamed", account.Unnamed)}
	for i, lost := range account.Lost {
		if i == logged {
			break
		}
		args = append(args, slog.String(fmt.Sprintf("lost_%d", i+1), lost.Conversation+" "+lost.Key))
	}
	a.cfg.Logger.ErrorContext(ctx, "audit: what was acknowledged doesn't add up; parley audit shows all of it", args...)
}

// logged is how many lost events the log names.
const logged = 10

// tidy has forgotten what is settled: buckets that ended a while ago, that add up, and
// of which nothing waits.
func (a *Auditor) tidy(ctx context.Context, g *parley.Ledger) error {
	open, all := map[int64]bool{}, map[int64]bool{}
	for i := range g.Lines {
		l := &g.Lines[i]
		if l.Sort == parley.AuditEvents && l.Bucket != parley.BucketBefore {
			all[l.Bucket] = true
			open[l.Bucket] = open[l.Bucket] || l.Missing() != 0 || l.Pending != 0
		}
	}
	var settled []int64
	for b := range all {
		// An append that began in a bucket may be there only later.
		if !open[b] && !a.settled[b] && b < parley.BucketOf(g.At)-1 && !g.Opened.IsZero() {
			settled = append(settled, b)
		}
	}
	slices.Sort(settled)
	if err := a.cfg.Store.TidyBooks(ctx, settled, horizon(g)); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	for b := range a.settled {
		if b < horizon(g) {
			delete(a.settled, b)
		}
	}
	for _, b := range settled {
		a.settled[b] = true
	}
	return nil
}
