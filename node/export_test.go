package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/console"
)

// Kept is a store as the upkeep sees it.
type Kept struct{ Pruned, Readied error }

// Prune is the store's.
func (k *Kept) Prune(context.Context, time.Duration) error { return k.Pruned }

// Ready is the store's.
func (k *Kept) Ready(context.Context) error { return k.Readied }

// Backlog is not asked for.
func (k *Kept) Backlog(context.Context) (parley.Backlog, error) { return parley.Backlog{}, nil }

// Close is not called.
func (k *Kept) Close() error { return nil }

// Upkeep is the upkeep of a node.
type Upkeep struct{ u *upkeep }

// NewUpkeep makes one.
func NewUpkeep(log *slog.Logger, to prometheus.Registerer) Upkeep { return Upkeep{newUpkeep(log, to)} }

// Once does it, and returns when it is to be done again and what /readyz says.
func (u Upkeep) Once(ctx context.Context, k *Kept) (again time.Duration, trouble string) {
	again = u.u.once(ctx, k, time.Hour)
	if t := u.u.trouble.Load(); t != nil {
		trouble = *t
	}
	return again, trouble
}

// LockFolder locks a data folder, and returns the id of its node.
func LockFolder(dir, fresh string) (id string, unlock func() error, err error) {
	f, err := lockFolder(dir, fresh)
	return f.id, f.close, err
}

// Credentials is what a node proves itself with, as TLS wants it.
func Credentials(cfg TLSConfig, dir string, log *slog.Logger, now func() time.Time) (*tls.Config, error) {
	c, err := openCredentials(cfg, dir, log, now)
	if err != nil {
		return nil, err
	}
	return c.config(), nil
}

// GossipKeys reads keys.
func GossipKeys(secrets []Secret, dir string) ([][]byte, error) { return gossipKeys(secrets, dir) }

// Gone is gone.
func Gone(before, now []cluster.Member) []string {
	return gone(cluster.NewView(before), cluster.NewView(now))
}

// Tokens are the tokens of one channel, whose place is a secret's.
type Tokens struct{ t *tokens }

// NewTokens has one token.
func NewTokens(dir string, ch parley.Channel, place Secret, token string) Tokens {
	t := newTokens(dir)
	t.add(ch, place, token)
	return Tokens{t}
}

// Look is look.
func (t Tokens) Look() []parley.Channel { return t.t.look() }

// Of is of.
func (t Tokens) Of(ch parley.Channel) string { return t.t.of(ch) }

// Lost is lost.
func Lost(now []cluster.Member, holder string) bool { return lost(cluster.NewView(now), holder) }

// ReadByAll is readByAll.
func ReadByAll(now []cluster.Member) int { return readByAll(cluster.NewView(now)) }

// Heirs is heirs.
func Heirs(now []cluster.Member, self string) (forShards, forChannels bool) {
	return heirs(cluster.NewView(now), self)
}

// ReadingOf is what a program of these bots tells that it reads.
func ReadingOf(bots []parley.Bot) (string, error) {
	r, err := readingOf(bots)
	return r.String(), err
}

// HeardVersion is the version of a bot that is read by somebody who told this.
func HeardVersion(told, bot string) int { return heardReading(told).version(bot) }

// MaxTold is the limit.
const MaxTold = maxTold

// LeftFor is how long somebody who has left counts.
const LeftFor = leftFor

// BotsOf are the versions of bots that a member is said to read.
func BotsOf(bots []parley.Bot, members []cluster.Member, m *cluster.Member) []console.BotVersion {
	return botsOf(bots, members, m)
}

// NewBarrier makes a barrier that sees what view returns; its version is that of a bot
// which everybody reads.
func NewBarrier(bots []parley.Bot, view func() *cluster.View, now func() time.Time) func(bot string) int {
	return (&barrier{bots: bots, view: view, now: now}).version
}

// Proofs are what services know a node by.
type Proofs struct{ p *proofs }

// NewProofs reads those of a configuration.
func NewProofs(cfg *Config, dir string) (Proofs, error) {
	services, err := readServices(cfg.Services, dir)
	if err != nil {
		return Proofs{}, err
	}
	bots, err := readHTTPBots(cfg.HTTPBots, dir)
	return Proofs{newProofs(cfg, dir, append(services, bots...))}, err
}

// Look is look, told in words: each service with its headers and its secret.
func (p Proofs) Look() (changed []string) {
	for _, one := range p.p.look() {
		changed = append(changed, fmt.Sprint(one.service, " ", one.headers, " ", one.secret))
	}
	return changed
}

// Watch is watch.
func (p Proofs) Watch(ctx context.Context, every time.Duration, caller *callout.Caller) {
	p.p.watch(ctx, every, slog.New(slog.DiscardHandler), caller)
}

// What a small heap is collected by.
var (
	CollectSeldom    = collectSeldom
	GarbagePercentOf = garbagePercentOf
	LiveBytes        = liveBytes
)

// On how many processors a process runs.
var AdaptProcessors = adaptProcessors

// EnoughIsOne is enoughIsOne.
func EnoughIsOne(isOne bool, used, passed, late time.Duration, live uint64) bool {
	return enoughIsOne(isOne, load{used: used, passed: passed, late: late, live: live})
}

// Announced is what a node does with what others have sent.
type Announced struct{ a *announced }

// NewAnnounced appends to store.
func NewAnnounced(store func(context.Context, parley.Arrivals) ([]parley.Pending, error)) Announced {
	return Announced{newAnnounced(store, slog.New(slog.DiscardHandler))}
}

// Add takes some.
func (a Announced) Add(sent []parley.Receipt) { a.a.add(sent, time.Now()) }

// Run appends until ctx ends.
func (a Announced) Run(ctx context.Context) { a.a.run(ctx) }

// Bounds are how many wait at most, how long an append is tried, and how long what was
// appended isn't again.
func (Announced) Bounds() (most int, tried, once time.Duration) {
	return maxAnnounced, announcedFor, announcedOnce
}
