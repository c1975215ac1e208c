package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// session is a connection with the settings of the store's own.
func session(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range postgres.Settings() {
		cfg.RuntimeParams[p[0]] = p[1]
	}
	cfg.RuntimeParams["statement_timeout"] = "60000" // it fills tables, too
	c, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// TestStatements prepares each statement against the schema as it is migrated,
// and finds statements that the list above it has forgotten.
func TestStatements(t *testing.T) {
	t.Parallel()
	c := session(t, database(t))
	all := postgres.Statements()
	for name, sql := range all {
		if _, err := c.Prepare(t.Context(), name, sql); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range constants(t) {
		if _, ok := all[name]; !ok {
			t.Errorf("%s is not among the statements of export_test.go", name)
		}
	}
}

// constants are the names of the package's constants that end with SQL.
func constants(t *testing.T) (names []string) {
	t.Helper()
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				for _, id := range v.Names {
					if strings.HasSuffix(id.Name, "SQL") {
						names = append(names, id.Name)
					}
				}
			}
			return true
		})
	}
	return names
}

// hot are the statements of the line. By each stand the tables that it may walk
// through by an index without a condition: in order, and to a limit.
func hot() map[string][]string {
	return map[string][]string{
		"insertRowsSQL": nil, "acceptRowsSQL": nil, "insertPostingsSQL": nil, "insertReceiptsSQL": nil, "lookUpSQL": nil, "makeKnownSQL": nil,
		"loadSnapshotSQL": nil, "loadRowsSQL": nil, "olderSQL": nil,
		"insertConversationsSQL": nil, "lockConversationsSQL": nil, "applySQL": nil,
		"trySQL": nil, "acquitSQL": nil,
		"claimCallsSQL": nil, "claimOthersSQL": nil, "nextCallSQL": nil, "answerCallsSQL": nil, "laterCallsSQL": nil,
		"overdueSQL": nil, "overdueEachSQL": nil, "fireSQL": nil, "nextTimerSQL": nil,
		"leaseSQL": nil, "yieldSQL": {"lease"}, "yieldWaitingSQL": {"lease"}, "holdSQL": nil, "orphanSQL": nil, "recallSQL": nil, "claimSQL": nil, "nextDueSQL": nil,
		"readClaimedSQL": nil, "removeSQL": nil, "promoteSQL": nil, "againSQL": nil,
		"readReceiptsSQL": nil, "removeReceiptsSQL": nil, "readAttemptedSQL": nil, "readAttemptsSQL": nil,
		"readDeliveriesSQL": nil, "writeDeliveriesSQL": nil, "raiseWatermarksSQL": nil, "pruneWatermarksSQL": nil,
		"oldestDeadSQL": nil, "newestDeadSQL": nil, "oneDeadSQL": {"dead"}, "takeDeadSQL": {"dead"}, "finalSQL": nil,
		"snapshotsSQL": nil,
	}
}

// TestPlans looks at the plans of the hot statements over filled tables, when the
// statistics are true, when they were taken of empty tables, and when they speak
// of rows that are gone, and over tables that have only begun to fill, since a plan
// made then is kept: each must go through an index, with all of its condition.
func TestPlans(t *testing.T) {
	t.Parallel()
	for name, state := range map[string][]string{
		"Good":               {fillSQL, "analyze"},
		"TakenWhenEmpty":     {"analyze", fillSQL},
		"TakenWhenItWasFull": {fillSQL, fillSQL2, "analyze", thinSQL},
		"NoneOfAFewRows":     {strings.ReplaceAll(fillSQL, "000) n", ") n")},
		"GoodOfAFewRows":     {strings.ReplaceAll(fillSQL, "000) n", ") n"), "analyze"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := session(t, database(t))
			quiet := "alter table parley.%s set (autovacuum_enabled = off)"
			for _, table := range []string{"inbox", "conversation", "outbox", "timer", "suspect", "receipt", "dead", "delivery", "contact", "call"} {
				state = append([]string{fmt.Sprintf(quiet, table)}, state...)
			}
			for _, sql := range state {
				if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
			for name, walked := range hot() {
				for _, problem := range problems(explain(t, c, name), walked) {
					t.Errorf("%s: %s", name, problem)
				}
			}
		})
	}
}

const fillSQL = `
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
    select n % 4096, ('b/messenger/p/user:' || n / 2)::bytea, n, n, n, '', false, '' from generate_series(1, 20000) n;
insert into parley.conversation select ('b/messenger/p/user:' || n)::bytea, 1, 1, 1, repeat('x', 300)::bytea from generate_series(1, 20000) n;
insert into parley.contact (alias, canonical) select ('b/whatsapp/p/phone:' || n)::bytea, ('b/whatsapp/p/phone:' || n)::bytea from generate_series(1, 20000) n;
insert into parley.merged select ('b/whatsapp/p/phone:' || n)::bytea, ('b/whatsapp/p/bsuid:' || n)::bytea, 1 from generate_series(1, 1000) n;
insert into parley.outbox (id, channel, conv, ordinal, at, data, due)
    select gen_random_uuid(), 'b/messenger/p', ('b/messenger/p/user:' || n / 3)::bytea, n, 0, '', case when n % 3 = 0 then 0 end from generate_series(1, 20000) n;
insert into parley.timer select gen_random_uuid(), n % 4096, ('b/messenger/p/user:' || n)::bytea, n, '', '' from generate_series(1, 20000) n;
insert into parley.receipt (channel, status, provider_id, outgoing, contact, watermark, at, code, reason)
    select 'b/messenger/p', '', n::text::bytea, gen_random_uuid(), '', 0, 0, 0, '' from generate_series(1, 20000) n;
insert into parley.delivery select 'b/messenger/p', md5(n::text)::bytea, '', gen_random_uuid(), '', '', 0, 0, 0, '', 0 from generate_series(1, 20000) n;
insert into parley.watermark select ('b/messenger/p/user:' || n)::bytea, '', 0, 0 from generate_series(1, 20000) n;
insert into parley.lease select ('b/messenger/p' || n)::bytea, '', 1, 0 from generate_series(1, 2000) n;
insert into parley.call (id, conv, service, at, due, data)
    select gen_random_uuid(), ('b/messenger/p/user:' || n)::bytea, ('s' || n % 5)::bytea, n, n, '' from generate_series(1, 20000) n;
insert into parley.suspect select n, n, 0 from generate_series(1, 20000) n;
insert into parley.dead select 'b', gen_random_uuid(), 'b/messenger/p/user:1', n, '', 1, '{}' from generate_series(1, 20000) n;
insert into parley.seen select 20000, ('b/messenger/p/user:' || n)::bytea, n::text::bytea, 0 from generate_series(1, 20000) n;
insert into parley.history select 20000, ('b/messenger/p/user:' || n)::bytea, n, '' from generate_series(1, 20000) n`

const fillSQL2 = `
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
    select n % 4096, ('b/messenger/q/user:' || n / 2)::bytea, n, n, n, '', false, '' from generate_series(1, 50000) n;
insert into parley.outbox (id, channel, conv, ordinal, at, data, due)
    select gen_random_uuid(), 'b/messenger/q', ('b/messenger/q/user:' || n / 3)::bytea, n, 0, '', 0 from generate_series(1, 50000) n`

const thinSQL = `
delete from parley.inbox where seq > 1000; delete from parley.outbox where ordinal > 1000; delete from parley.receipt where n > 100;
delete from parley.timer where due > 100; delete from parley.call where due > 100; delete from parley.suspect where seq > 100; delete from parley.lease where channel > 'b/messenger/p2'`

// node is a node of a plan, as explain tells it.
type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Cond     string  `json:"Index Cond"`
	Recheck  string  `json:"Recheck Cond"`
	Filter   string  `json:"Filter"`
	Rows     float64 `json:"Actual Rows"` // in each of the loops, if it was run
	Removed  float64 `json:"Rows Removed by Filter"`
	Loops    float64 `json:"Actual Loops"`
	Plans    []node  `json:"Plans"`
}

// explain is the plan that a session of the store's would use for a statement,
// whatever it is given.
func explain(t *testing.T, c *pgx.Conn, name string) node {
	t.Helper()
	sql := postgres.Statements()[name]
	d, err := c.Prepare(t.Context(), name, sql)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	nulls := strings.TrimSuffix(strings.Repeat("null,", len(d.ParamOIDs)), ",")
	if nulls != "" {
		nulls = "(" + nulls + ")"
	}
	return planOf(t, c, fmt.Sprintf("explain (format json) execute %q%s", name, nulls))
}

func planOf(t *testing.T, c *pgx.Conn, explain string) node {
	t.Helper()
	var text []byte
	if err := c.QueryRow(t.Context(), explain, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		t.Fatalf("%s: %v", explain, err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan
}

// problems are the scans that would read a whole table, or all that has died in
// one. The tables by day are looked at as their default partition.
func problems(n node, walked []string) (found []string) {
	switch {
	case n.Type == "Seq Scan":
		found = append(found, "reads all of "+n.Relation)
	case strings.Contains(n.Type, "Index") && n.Cond == "" && !slices.Contains(walked, n.Relation):
		found = append(found, "walks all of "+n.Index)
	case n.Relation != "" && oneOfMany().MatchString(n.Filter):
		found = append(found, "looks for its rows among others of "+n.Relation)
	case strings.Contains(n.Type, "Hash"), strings.Contains(n.Type, "Merge Join"), strings.Contains(n.Type, "Bitmap"):
		found = append(found, "has a "+n.Type)
	}
	for _, inner := range n.Plans {
		found = append(found, problems(inner, walked)...)
	}
	return found
}

// oneOfMany is a condition that ought to have led through the index.
func oneOfMany() *regexp.Regexp { return regexp.MustCompile(`^\(?\(\w+ = ANY \(\$\d+\)\)`) }

// busiest is how many rows the busiest node of a plan has looked at.
func busiest(n node) float64 {
	most := (n.Rows + n.Removed) * n.Loops
	for _, inner := range n.Plans {
		most = max(most, busiest(inner))
	}
	return most
}

// TestPlansOfANodeBehindOthers: what a node looks at, to find the few rows of its
// own, doesn't grow with the older rows of other nodes' shards.
func TestPlansOfANodeBehindOthers(t *testing.T) {
	t.Parallel()
	c := session(t, database(t))
	run(t, c, `
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
    select (n % 1365) * 3 + 1, ('b/messenger/p/user:' || n)::bytea, n, 1000 + n, n, '', false, '' from generate_series(1, 50000) n`)
	run(t, c, `
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
    select n * 3, ('b/messenger/p/user:own' || n)::bytea, n, 1000000 + n, n, '', false, '' from generate_series(1, 5) n`)
	var shards []string
	mask := make([]byte, parley.Shards/8)
	for s := 0; s < parley.Shards; s += 3 {
		shards = append(shards, fmt.Sprint(s))
		mask[s/8] |= 1 << (s % 8)
	}
	const limit = 100
	const window = limit * postgres.OverdueWindow
	for name, call := range map[string]struct {
		arguments string
		most      float64
	}{
		"overdueSQL":     {fmt.Sprintf(`2000000, 1000, '\x%x', %d, %d`, mask, limit, window), window + 1},
		"overdueEachSQL": {fmt.Sprintf(`2000000, 1000, '{%s}', %d`, strings.Join(shards, ","), limit), float64(len(shards) + 5)},
	} {
		if _, err := c.Prepare(t.Context(), name, postgres.Statements()[name]); err != nil {
			t.Fatal(err)
		}
		plan := planOf(t, c, fmt.Sprintf("explain (analyze, format json) execute %q(%s)", name, call.arguments))
		if n := busiest(plan); n < 5 || n > call.most {
			t.Errorf("%s looks at %v rows, want at most %v", name, n, call.most)
		}
	}
}

// TestPlansSee plants what the test above must find.
func TestPlansSee(t *testing.T) {
	t.Parallel()
	c := session(t, database(t))
	if _, err := c.Exec(t.Context(), "alter table parley.inbox drop constraint inbox_pkey", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if len(problems(explain(t, c, "loadRowsSQL"), nil)) == 0 {
		t.Error("a plan without its index has no problems")
	}
	if names := slices.Collect(maps.Keys(hot())); len(names) < 20 {
		t.Errorf("only %d hot statements", len(names))
	}
}
