package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/persistence/postgres"
)

const (
	// largeMax bounds a comparison of stores, the filling included.
	largeMax = 40 * time.Minute

	// fewStored is the smaller store. Each of its conversations has one turn in a
	// round, and as many of the larger one's have, spread over all of it.
	fewStored = 10_000

	// largeRatioMax is promised: what a turn may cost in the larger store, as a
	// multiple of what it costs in the smaller.
	largeRatioMax = 1.15

	templateTurns = 12      // that each stored conversation has had
	fillRows      = 200_000 // in one statement
)

// large holds the cost of a turn among many stored conversations to that among
// few, side by side.
type large struct {
	config
	many *database
}

// compare measures; what it notes are the sizes of the stores.
func compare(ctx context.Context, c config) (results []rounds.Result, notes []string, err error) {
	c.large = roundUp(c.large, c.rounds*c.users)
	l := &large{config: c}
	if l.many, err = c.server.fresh(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, l.many.drop(ctx)) }()
	for round := range c.rounds {
		if err := l.fill(ctx, l.many, round, c.large/c.rounds); err != nil {
			return nil, nil, err
		}
	}
	note, err := l.settle(ctx, l.many)
	if err != nil {
		return nil, nil, err
	}
	few := fmt.Sprintf("turn, %d stored", l.users)
	results, err = rounds.Run(ctx, []rounds.Scenario{
		{Name: few, Measure: l.amongFew()},
		{Name: fmt.Sprintf("turn, %d stored", c.large), Base: few, AtMost: largeRatioMax, Measure: l.amongMany()},
	}, c.rounds, progress)
	return results, []string{note}, err
}

// roundUp is the next multiple of a number.
func roundUp(n, of int) int { return (n + of - 1) / of * of }

// checkLarge: each round has users of its own, each of whom writes once.
func (c config) checkLarge() error {
	l := large{config: c}
	switch of := c.rounds * c.users; {
	case c.large < of:
		return fmt.Errorf("%d conversations: want %d at least, so that each of %d rounds has its own", c.large, of, c.rounds)
	case c.warmup >= l.simulation().Duration:
		return fmt.Errorf("warm-up of %s: want less than the %s in which each user writes once", c.warmup, l.simulation().Duration)
	}
	return nil
}

// simulation: each user writes once, so each turn begins with loading a
// conversation that no memory and no cache has seen for long. That is the worst
// case; a user who writes again finds it warm.
func (l *large) simulation() metatest.Config {
	simulation := metatest.Config{
		Rate: l.rate, Users: l.users, Duration: time.Duration(float64(l.users) / l.rate * float64(time.Second)),
		Mix: metatest.Shares{Messenger: 1},
	}
	simulation.TextBytes = textBytes(simulation)
	return simulation
}

func (l *large) brand(round int) parley.Brand { return parley.Brand(fmt.Sprint("bench", round+1)) }

// amongFew measures a store that holds nobody but the users who write.
func (l *large) amongFew() func(context.Context) ([]rounds.Figure, error) {
	round := 0
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		at, leave, err := l.lodge(ctx, storePostgres)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, leave()) }()
		if err := l.fill(ctx, at.base, round, l.users); err != nil {
			return nil, err
		}
		if _, err := l.settle(ctx, at.base); err != nil {
			return nil, err
		}
		round++
		return l.measure(ctx, at, round-1)
	}
}

// amongMany measures the larger store, with the users of one brand after the other.
func (l *large) amongMany() func(context.Context) ([]rounds.Figure, error) {
	round := 0
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		folder, remove, err := l.tempFolder()
		if err != nil {
			return nil, err
		}
		defer remove()
		round++
		return l.measure(ctx, &lodging{folder: folder, base: l.many}, round-1)
	}
}

// measure plays a round, and sees that the turns were those of conversations that
// had been there before.
func (l *large) measure(ctx context.Context, at *lodging, round int) ([]rounds.Figure, error) {
	name := "turn-among-few"
	if at.base == l.many {
		name = "turn-among-many"
	}
	figures, err := l.playOn(ctx, at, play{
		name: name, brand: l.brand(round), simulation: l.simulation(), first: l.warmup,
	})
	if err != nil {
		return nil, err
	}
	keys, err := l.keys(round) //nolint:contextcheck // the simulator isn't run
	if err != nil {
		return nil, err
	}
	var moved int
	err = at.base.with(ctx, at.base.name, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, movedSQL, keys, templateTurns+1).Scan(&moved)
	})
	if err == nil && moved != len(keys) {
		err = fmt.Errorf("%d of %d stored conversations have had their turn", moved, len(keys))
	}
	return figures, err
}

const movedSQL = `
select count(*) from unnest($1::bytea[]) k (conv) join parley.conversation c on c.conv = k.conv where c.version = $2`

// keys are the stored names of the conversations of a round's users, in order.
func (l *large) keys(round int) ([][]byte, error) {
	simulator, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: l.simulation()})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range simulator.People() {
		names = append(names, parley.Conversation{
			Channel: parley.Channel{Brand: l.brand(round), Kind: parley.ChannelKind(p.Channel.Platform), ID: p.Channel.ID},
			Contact: parley.Contact(parley.UserKey + p.ID),
		}.String())
	}
	slices.Sort(names)
	keys := make([][]byte, len(names))
	for i := range names {
		keys[i] = []byte(names[i])
	}
	return keys, simulator.Close()
}

// fillConversationsSQL and fillHistorySQL copy the template to each user, and
// then to so many others, whose names come between that user's and the next's in
// every index, and whose rows lie between theirs in every table.
const (
	fillConversationsSQL = `
insert into parley.conversation (conv, version, token, format, snapshot)
select k.conv || case when f.n = 0 then ''::bytea else convert_to(lpad(f.n::text, 6, '0'), 'UTF8') end, t.version, t.token, t.format, t.snapshot
from unnest($1::bytea[]) k (conv) cross join generate_series(0, $2::integer - 1) f (n)
cross join (select * from parley.conversation where conv = $3) t`
	fillHistorySQL = `
insert into parley.history (day, conv, version, record)
select t.day, k.conv || case when f.n = 0 then ''::bytea else convert_to(lpad(f.n::text, 6, '0'), 'UTF8') end, t.version, t.record
from unnest($1::bytea[]) k (conv) cross join generate_series(0, $2::integer - 1) f (n)
cross join (select * from parley.history where conv = $3 order by version desc limit 1) t`
)

// fill stores n conversations of a round's brand, each with the record of its last
// turn, which is a row of today's history.
func (l *large) fill(ctx context.Context, base *database, round, n int) error {
	template, err := l.template(ctx, base)
	if err != nil {
		return fmt.Errorf("make the conversation that is copied: %w", err)
	}
	keys, err := l.keys(round) //nolint:contextcheck // the simulator isn't run
	if err != nil {
		return err
	}
	each, done, began := n/len(keys), 0, time.Now()
	return base.with(ctx, base.name, func(ctx context.Context, c *pgx.Conn) error {
		for chunk := range slices.Chunk(keys, max(1, fillRows/each)) {
			for _, sql := range []string{fillConversationsSQL, fillHistorySQL} {
				if _, err := c.Exec(ctx, sql, chunk, each, template); err != nil {
					return fmt.Errorf("fill the store: %w", err)
				}
			}
			if done += len(chunk) * each; n > fillRows {
				fmt.Fprintf(os.Stderr, "filled %d of %d conversations of brand %d of %d, %s\n",
					done, n, round+1, l.rounds, time.Since(began).Round(time.Second))
			}
		}
		return nil
	})
}

// template makes a conversation by turns of the bot that will have the next, and
// returns its name.
func (l *large) template(ctx context.Context, base *database) (name []byte, err error) {
	stored, err := postgres.Open(ctx, postgres.Config{URL: base.url})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	if err := stored.Prune(ctx, parley.HistoryFor); err != nil { // makes the tables by day
		return nil, err
	}
	bot := tally.Bot()
	who := parley.Conversation{Channel: channel(), Contact: parley.UserKey + "template"}
	loaded, err := stored.Load(ctx, who, 1)
	if err != nil {
		return nil, err
	}
	snapshot := loaded.Snapshot
	for range templateTurns - int(snapshot.Version.Number) {
		// No command, so that the first of a simulated user is the first that counts.
		rows, err := stored.Append(ctx, parley.Arrivals{Events: []parley.Event{{
			Channel: who.Channel, Contacts: []parley.Contact{who.Contact}, Key: parley.EventKey(random(16)), Time: time.Now(),
			Input: parley.Message{ID: fmt.Sprintf("m_%x", random(16)), Text: "How long will it take? I have been waiting for quite a while now."},
		}}})
		if err != nil {
			return nil, err
		}
		commit := parley.Step(&bot, snapshot, rows, parley.Circumstance{Nonce: [16]byte(random(16))})
		errs, err := stored.Commit(ctx, []parley.Commit{commit})
		if err := errors.Join(append(errs, err)...); err != nil {
			return nil, err
		}
		snapshot = commit.Next
	}
	return []byte(who.String()), nil
}

const sizesSQL = `
select count(*), pg_size_pretty(pg_total_relation_size('parley.conversation')), pg_size_pretty(pg_database_size(current_database()))
from parley.conversation`

// settle leaves a filled store as one that has been there for long: with nothing
// that waits to be cleaned up or written. It tells its size.
func (l *large) settle(ctx context.Context, base *database) (note string, err error) {
	if err := base.tell(ctx, base.name, "vacuum (analyze)", "checkpoint"); err != nil {
		return "", err
	}
	return note, base.with(ctx, base.name, func(ctx context.Context, c *pgx.Conn) error {
		var n int
		var conversations, all string
		if err := c.QueryRow(ctx, sizesSQL).Scan(&n, &conversations, &all); err != nil {
			return fmt.Errorf("sizes of the store: %w", err)
		}
		note = fmt.Sprintf("%d conversations stored: %s, with the record of a turn of each %s; %d of them have a turn in each round", n, conversations, all, l.users)
		return nil
	})
}
