package postgres_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/persistence/pgserver/pgtest"
	"github.com/parleychat/parley/persistence/postgres"
	"github.com/parleychat/parley/persistence/storetest"
)

// cluster is the server that the tests of this package share.
var cluster = pgtest.Cluster{Migrate: func(ctx context.Context, url string) error {
	_, err := postgres.Migrate(ctx, url)
	return err
}}

func TestMain(m *testing.M) { goleak.VerifyTestMain(cluster.Around(m)) }

func database(tb testing.TB) string {
	tb.Helper()
	return cluster.Database(tb)
}

// survivor is a store that knows what it was opened on.
type survivor struct {
	*postgres.Store
	url string
}

// open opens a small store and closes it at the end of the test.
func open(tb testing.TB, cfg postgres.Config) *postgres.Store {
	tb.Helper()
	if cfg.Conns == 0 {
		cfg.Conns = 4
	}
	s, err := postgres.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func openForExam(t *testing.T, o storetest.Options) storetest.Store { //nolint:ireturn // storetest.Open has it so
	t.Helper()
	var url string
	if old, ok := o.Reopen.(survivor); ok {
		url = old.url
	} else {
		url = database(t)
	}
	return survivor{Store: open(t, postgres.Config{URL: url, Now: o.Now}), url: url}
}

func TestExam(t *testing.T) {
	t.Parallel()
	storetest.Run(t, openForExam)
}
