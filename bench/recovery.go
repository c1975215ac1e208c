package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/meta/metatest"
)

// recovery is how long the users of a node that is killed, and stays dead, wait for
// what comes next, while everybody writes. In each round it is another node's turn.
func (t *together) recovery() func(context.Context) ([]rounds.Figure, error) {
	round := -1
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		round++
		simulation := metatest.Sized(t.recoveryRate, 0)
		// Of these users it can be told whose they are: each has one key.
		simulation.Mix = metatest.Shares{Messenger: 1, Instagram: 1}
		simulation.Duration = playMax
		err = t.scene(ctx, simulation, func(ctx context.Context, s *stage) error {
			k := kill{stage: s, victim: round % threeNodes}
			if err := k.strike(ctx, t); err != nil {
				return err
			}
			figures, err = k.figures(ctx, t)
			return err
		})
		return figures, err
	}
}

// kill is one of a node.
type kill struct {
	*stage
	victim int
	at     time.Time
	seq    int64 // the last row that was stored in the time that counts, at the most
}

func (k *kill) strike(ctx context.Context, t *together) error {
	return k.while(ctx, func(ctx context.Context) (err error) {
		if err := wait(ctx, time.Now().Add(t.lull)); err != nil {
			return err
		}
		if k.at, err = k.nodes[k.victim].kill(); err != nil {
			return err
		}
		k.simulator.Killed(k.at)
		if err := wait(ctx, k.at.Add(t.recoverWithin)); err != nil {
			return err
		}
		err = k.l.base.with(ctx, k.l.base.name, func(ctx context.Context, c *pgx.Conn) error {
			return c.QueryRow(ctx, `select last_value from parley.inbox_seq`).Scan(&k.seq)
		})
		if err != nil {
			return fmt.Errorf("the last row stored: %w", err)
		}
		return wait(ctx, k.at.Add(t.recoverWithin+t.lull))
	})
}

// owned are the stored names of the conversations of the node that was killed.
func (k *kill) owned() map[string]bool {
	view, all := k.nodes.view(), map[string]bool{}
	for _, p := range k.simulator.People() {
		if c := conversationOf(p); k.nodes.owns(view, k.victim, c) {
			all[c.String()] = true
		}
	}
	return all
}

// conversationOf is the one of a user who has one key.
func conversationOf(p metatest.Person) parley.Conversation {
	return parley.Conversation{
		Channel: parley.Channel{Brand: brand, Kind: parley.ChannelKind(p.Channel.Platform), ID: p.Channel.ID},
		Contact: parley.Contact(parley.UserKey + p.ID),
	}
}

func (k *kill) figures(ctx context.Context, t *together) ([]rounds.Figure, error) {
	owned := k.owned()
	replies, excluded, err := k.replies(ctx, t, owned)
	if err != nil {
		return nil, err
	}
	turns, err := k.turns(ctx, owned)
	if err != nil {
		return nil, err
	}
	if len(replies) == 0 || len(turns) == 0 {
		return nil, errors.New("no user of the node that was killed waited for anything")
	}
	figure := func(name string, of []float64, share float64) rounds.Figure {
		return rounds.Figure{Name: name, Unit: "s", Value: rounds.Quantile(of, share), Of: of, Quantile: share}
	}
	return []rounds.Figure{
		figure("until the next reply, p99", replies, 0.99),
		figure("until the next reply, p50", replies, 0.50),
		figure("until the next reply, most", replies, 1),
		figure("until the next turn, p99", turns, 0.99),
		figure("until the next turn, most", turns, 1),
		{Name: "left out as doubtful", Unit: "users", Value: float64(excluded)},
	}, nil
}

// replies are how long users of the node waited for their next reply, in s, sorted.
// Whose message was with the provider just then must wait for what becomes of it, by
// the policy, before anything else is sent: these users are left out, as far as the
// nodes have counted so many such messages beyond those of other nodes' users.
func (k *kill) replies(ctx context.Context, t *together, owned map[string]bool) (seconds []float64, excluded int, err error) {
	counted, err := k.nodes.metrics(ctx)
	if err != nil {
		return nil, 0, err
	}
	all := func(theirs bool) []time.Duration {
		return k.simulator.Waits(k.at, t.recoverWithin, func(p metatest.Person) bool { return owned[conversationOf(p).String()] == theirs })
	}
	patience := t.doubtful
	if patience == 0 {
		patience = egress.DoubtfulWait
	}
	doubtful := func(w time.Duration) bool { return w >= patience }
	may := int(counted[doubtfulMetric])
	for _, w := range all(false) {
		if doubtful(w) {
			may--
		}
	}
	waits := all(true)
	slices.Sort(waits)
	for ; len(waits) > 0 && may > excluded && doubtful(waits[len(waits)-1]); excluded++ {
		waits = waits[:len(waits)-1]
	}
	for _, w := range waits {
		seconds = append(seconds, w.Seconds())
	}
	return seconds, excluded, nil
}

// turnsSQL finds the first turn that each conversation had after an instant, by when
// it was committed, if the turn's first row had been stored before a number.
const turnsSQL = `
select conv, committed from (
	select distinct on (conv) conv, extract(epoch from committed)::float8 as committed,
		(convert_from(record, 'UTF8')::jsonb #>> '{turn,0,seq}')::bigint as seq
	from (select *, pg_xact_commit_timestamp(xmin) as committed from parley.history) h
	where committed >= $1 order by conv, version) f
where seq <= $2`

// turns are how long conversations of the node waited for their next turn, in s,
// sorted, by the clock of the server, which is on this machine.
func (k *kill) turns(ctx context.Context, owned map[string]bool) (waits []float64, err error) {
	err = k.l.base.with(ctx, k.l.base.name, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, turnsSQL, k.at, k.seq)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name []byte
			var committed float64
			if err := rows.Scan(&name, &committed); err != nil {
				return err
			}
			if owned[string(name)] {
				waits = append(waits, committed-float64(k.at.UnixNano())/float64(time.Second))
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("turns after the kill: %w", err)
	}
	slices.Sort(waits)
	return waits, nil
}
