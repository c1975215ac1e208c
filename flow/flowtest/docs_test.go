package flowtest_test

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

const page = "../../docs/testing-bots.md"

// The transcripts of the documentation are played, in all ways; -update writes them.
func TestDocumentedTranscripts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```transcript\n(.*?)```")
	played := 0
	kit := flowtest.Kit{Bot: shop()}
	out := blocks.ReplaceAllStringFunc(string(text), func(block string) string {
		played++
		written := strings.TrimSuffix(strings.TrimPrefix(block, "```transcript\n"), "```")
		script := parse(t, written)
		said, err := kit.Play(script)
		if err != nil {
			t.Fatalf("transcript %d: %v", played, err)
		}
		if err := kit.Verify(script); err != nil {
			t.Errorf("transcript %d: %v", played, err)
		}
		if d := flowtest.Diff(script, said); d != "" && flag.Lookup("update").Value.String() != "true" {
			t.Errorf("transcript %d (-update writes it):\n%s", played, d)
		}
		return "```transcript\n" + said.String() + "```"
	})
	if played < 5 {
		t.Errorf("found %d transcripts", played)
	}
	if out != string(text) && !t.Failed() {
		if err := os.WriteFile(page, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What the documentation shows of Go is in these files.
func TestDocumentedCode(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("docs_test.go")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../examples/pizza/pizza_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile("(?s)```go\n(func .*?)```").FindAllStringSubmatch(string(text), -1) {
		found++
		if !strings.Contains(string(source)+string(example), m[1]) {
			t.Errorf("not in docs_test.go, nor in the example's test:\n%s", m[1])
		}
	}
	if found < 5 {
		t.Errorf("found %d functions", found)
	}
}

func TestShop(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, shop(), "testdata/shop/*.txt")
}

func TestKitchen(t *testing.T) {
	t.Parallel()
	kit := flowtest.Kit{Bot: shop(), Services: map[string]flowtest.Service{
		"kitchen": func(c parley.Call) flowtest.Answer {
			return flowtest.Answer{Status: 200, Body: []byte("baked: " + c.Path)}
		},
	}}
	kit.Run(t, "testdata/kitchen/*.txt")
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	older, newer := shop(), shop() // in a real test they differ
	kit := flowtest.Kit{Bot: newer, Earlier: []parley.Bot{older}}
	kit.Run(t, "testdata/upgrade/*.txt")
}

func TestEveryPizza(t *testing.T) {
	t.Parallel()
	for _, title := range []string{"Margherita", "Salami"} {
		c := flowtest.New(t, shop())
		anna := c.User("anna")
		anna.Say("hi")
		anna.Choose(title)
		if got := anna.Heard(); got != "One "+title+", coming up." {
			t.Errorf("heard %q", got)
		}
		c.Wait(21 * 24 * time.Hour)
		if last := anna.Sent()[2]; last.Template == nil {
			t.Errorf("asked with %+v", last)
		}
		c.Verify(t) // in the other ways, too
	}
}
