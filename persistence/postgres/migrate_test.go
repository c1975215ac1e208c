package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

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
