package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parleychat/parley/meta/metatest/history"
)

// A history that demo has kept is checked again, by itself; one from which a bug looks is
// told, and the exit code says so.
func TestSimCheck(t *testing.T) {
	t.Parallel()
	past := filepath.Join(t.TempDir(), "past.jsonl")
	run(t, "", "demo", "--ack-median", besideOthers, "--dir", t.TempDir(), "--duration", "2s", "--rate", "60", "--users", "6", "--history", past).want(t, 0, "")
	e := run(t, "", "sim", "check", "--json", past)
	e.want(t, 0)
	var r history.Report
	if err := json.Unmarshal([]byte(e.out), &r); err != nil || r.Operations < 100 || r.Conversations != 6 || !r.Whole {
		t.Fatalf("the report: %v\n%s", err, e.out)
	}
	text, err := os.ReadFile(past)
	if err != nil {
		t.Fatal(err)
	}
	stale := strings.ReplaceAll(string(text), `"n":9}`, `"n":8}`) // as if the ninth began from the state of the eighth
	if err := os.WriteFile(past, []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "sim", "check", past).want(t, 1, "")
	if e := run(t, "", "sim", "check", past); !strings.Contains(e.out, "BROKEN G4  ") || !strings.Contains(e.out, "#8") {
		t.Errorf("want the promise and the conversations named:\n%s%s", e.out, e.errors)
	}
	run(t, "", "sim", "check", filepath.Join(t.TempDir(), "none")).want(t, 2, "none")
	run(t, "", "sim", "check", "--help").want(t, 0, "")
}
