// Package examples_test holds the example bots to what all of them must have.
package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each example has transcripts, and the test that plays them.
func TestExamplesHaveTranscripts(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		if program, _ := filepath.Glob(filepath.Join(e.Name(), "*.go")); !e.IsDir() || len(program) == 0 {
			continue // those in other languages are played by cmd/parley's tests
		}
		found++
		transcripts, err := filepath.Glob(filepath.Join(e.Name(), "testdata", "*.txt"))
		if err != nil || len(transcripts) == 0 {
			t.Errorf("no transcripts of %s (%v)", e.Name(), err)
		}
		source, err := os.ReadFile(filepath.Join(e.Name(), e.Name()+"_test.go"))
		if err != nil || !strings.Contains(string(source), "flowtest") {
			t.Errorf("nothing plays the transcripts of %s (%v)", e.Name(), err)
		}
	}
	if found == 0 {
		t.Error("found no examples")
	}
}

// The bot in the README is the one in the folder: it compiles and is tested.
func TestReadmeShowsTheGreeter(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("greeter/greeter.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(source)+"```\n") {
		t.Error("README.md does not show examples/greeter/greeter.go as it is")
	}
}
