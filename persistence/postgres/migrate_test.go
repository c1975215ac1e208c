package postgres_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/parleychat/parley/persistence/postgres"
)

// TestMigrateByManyAtOnce: nodes start together; one migrates, all find it done.
func TestMigrateByManyAtOnce(t *testing.T) {
	t.Parallel()
	url := database(t)
	c := session(t, url)
	run(t, c, "drop schema parley cascade")
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: url}); !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), "parley migrate up") {
		t.Fatalf("open without a schema: %v", err)
	}
	status, err := postgres.Status(t.Context(), url)
	if err != nil || len(status) != postgres.Schema || !status[0].Applied.IsZero() {
		t.Fatalf("status before: %+v %v", status, err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 5 {
		wg.Go(func() {
			steps, err := postgres.Migrate(t.Context(), url)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			made += len(steps)
		})
	}
	wg.Wait()
	if made != postgres.Schema {
		t.Errorf("%d steps were made, want %d", made, postgres.Schema)
	}
	status, err = postgres.Status(t.Context(), url)
	if err != nil || len(status) != postgres.Schema || status[0].Applied.IsZero() {
		t.Fatalf("status after: %+v %v", status, err)
	}
	say(t, open(t, postgres.Config{URL: url}), "a")
}

// TestSchemaOfOthers: an older program goes on with a newer schema, until a step
// takes away what it uses.
func TestSchemaOfOthers(t *testing.T) {
	t.Parallel()
	url := database(t)
	c := session(t, url)
	run(t, c, "insert into parley.migration (version_id, is_applied) values (99, true)")
	say(t, open(t, postgres.Config{URL: url}), "a")
	run(t, c, "update parley.contract set oldest = 99")
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: url}); !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), "newer parley") {
		t.Fatalf("open a schema that excludes this program: %v", err)
	}
	run(t, c, "update parley.contract set oldest = 1")
	run(t, c, "delete from parley.migration where version_id > 0")
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: url}); !errors.Is(err, postgres.ErrSchema) {
		t.Fatalf("open a schema without its steps: %v", err)
	}
}

// TestNoSecretInErrors: a connection string holds a password.
func TestNoSecretInErrors(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://me:hunter2@127.0.0.1:1/db?connect_timeout=1",
		"postgres://me:hunter2@127.0.0.1:1/db?pool_max_conns=many",
		"host=127.0.0.1 port=1 password=hunter2 nonsense",
		"postgres://me:hunter2@[::1/db",
	} {
		_, openErr := postgres.Open(t.Context(), postgres.Config{URL: url})
		_, migrateErr := postgres.Migrate(t.Context(), url)
		_, statusErr := postgres.Status(t.Context(), url)
		for _, err := range []error{openErr, migrateErr, statusErr} {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v", strings.ReplaceAll(url, "hunter2", "…"), err)
			}
		}
	}
}

// steps is goose on a database, to go up and down one step at a time.
func steps(t *testing.T, url string) *goose.Provider {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*cfg)
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"),
		goose.WithTableName("parley.migration"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// shape is what a program that was made for a schema relies on: its columns, and
// its indexes, constraints included.
func shape(t *testing.T, c *pgx.Conn) []string {
	t.Helper()
	rows, err := c.Query(t.Context(), `
select c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
    || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
from pg_class c join pg_attribute a on a.attrelid = c.oid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'parley'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
union all
select indexdef from pg_indexes where schemaname = 'parley'
union all
select conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'parley'::regnamespace
order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestEachStepAddsOnly: programs of the step before go on with the schema, as long
// as it doesn't say otherwise, because all that they rely on is still there. And
// each step can be taken back and made again.
func TestEachStepAddsOnly(t *testing.T) {
	t.Parallel()
	url := database(t)
	c, p := session(t, url), steps(t, url)
	newest := shape(t, c)
	for version := int64(postgres.Schema); version > 1; version-- {
		now := shape(t, c)
		if _, err := p.DownTo(t.Context(), version-1); err != nil {
			t.Fatal(err)
		}
		for _, part := range shape(t, c) {
			if !slices.Contains(now, part) {
				t.Errorf("step %d changes what the one before has: %s", version, part)
			}
		}
		if n := count(t, c, "parley.contract where oldest = 1"); n != 1 {
			t.Errorf("step %d excludes older programs", version)
		}
	}
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: url}); !errors.Is(err, postgres.ErrSchema) {
		t.Errorf("open a schema that lacks steps: %v", err)
	}
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if again := shape(t, c); !slices.Equal(again, newest) {
		t.Errorf("after all was taken back and made again it is another schema:\n%v\n%v", again, newest)
	}
	say(t, open(t, postgres.Config{URL: url}), "a")
}
