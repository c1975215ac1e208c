package postgres_test

import (
	"testing"

	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/postgres"
)

// Whether the database is reached is asked of it.
func TestReach(t *testing.T) {
	t.Parallel()
	cluster.Database(t) // skips, loudly, where there is no PostgreSQL
	server, err := pgserver.Start(t.Context(), pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	url := server.URL("postgres")
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reach(t.Context()); err != nil {
		t.Errorf("the database that is there: %v", err)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reach(t.Context()); err == nil {
		t.Error("a database that has stopped is reached")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
