package parley_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley"
)

func do(effects ...parley.Effect) func(*parley.Turn) error {
	return func(t *parley.Turn) error {
		for _, e := range effects {
			t.Do(e)
		}
		return nil
	}
}

func many(n int, f func(i int) parley.Effect) func(*parley.Turn) error {
	effects := make([]parley.Effect, 0, n)
	for i := range n {
		effects = append(effects, f(i))
	}
	return do(effects...)
}

func text(n int) parley.Effect { return parley.Send{Text: strings.Repeat("x", n)} }

func offer(q parley.QuickReply) parley.Effect {
	return parley.Send{Text: "x", QuickReplies: []parley.QuickReply{q}}
}

func name(n int) string { return strings.Repeat("n", n) }

type limit struct {
	name string
	most func(*parley.Turn) error // just within
	more func(*parley.Turn) error // just beyond
}

func turnLimits() []limit {
	replies := func(n int) parley.Effect {
		send := parley.Send{Text: "x"}
		for range n {
			send.QuickReplies = append(send.QuickReplies, parley.QuickReply{Title: "t"})
		}
		return send
	}
	state := func(n int) func(*parley.Turn) error {
		return func(t *parley.Turn) error { return t.SetState(strings.Repeat("x", n-len(`""`))) }
	}
	title := func(n int) parley.Effect { return offer(parley.QuickReply{Title: name(n)}) }
	payload := func(n int) parley.Effect { return offer(parley.QuickReply{Title: "t", Payload: name(n)}) }
	set := func(n int) parley.Effect { return parley.SetTimer{Name: name(n)} }
	cancel := func(n int) parley.Effect { return parley.CancelTimer{Name: name(n)} }
	become := func(n int) parley.Effect { return parley.Become{Behavior: name(n)} }
	ahead := func(d time.Duration) parley.Effect { return parley.SetTimer{Name: "n", In: d} }
	bytes := func(n int) json.RawMessage { return json.RawMessage(`"` + name(n-len(`""`)) + `"`) }
	call := func(body json.RawMessage) parley.Effect { return parley.Call{Name: "n", Service: "s", Body: body} }
	calls := func(i int) parley.Effect { return parley.Call{Name: fmt.Sprint(i), Service: "s"} }
	path := func(p string) parley.Effect { return parley.Call{Name: "n", Service: "s", Path: p} }
	x := func(int) parley.Effect { return text(1) }
	return []limit{
		{"MaxEffects", many(parley.MaxEffects, x), many(parley.MaxEffects+1, x)},
		{"MaxStateBytes", state(parley.MaxStateBytes), state(parley.MaxStateBytes + 1)},
		{"MaxTextBytes", do(text(parley.MaxTextBytes)), do(text(parley.MaxTextBytes + 1))},
		{"MaxQuickReplies", do(replies(parley.MaxQuickReplies)), do(replies(parley.MaxQuickReplies + 1))},
		{"MaxPayloadBytes", do(payload(parley.MaxPayloadBytes)), do(payload(parley.MaxPayloadBytes + 1))},
		{"MaxNameBytes", do(title(parley.MaxNameBytes)), do(title(parley.MaxNameBytes + 1))},
		{"MaxNameBytes", do(set(parley.MaxNameBytes)), do(set(parley.MaxNameBytes + 1))},
		{"MaxNameBytes", do(cancel(parley.MaxNameBytes)), do(cancel(parley.MaxNameBytes + 1))},
		{"MaxNameBytes", do(become(parley.MaxNameBytes)), do(become(parley.MaxNameBytes + 1))},
		{"MaxNameBytes", do(title(1), set(1), cancel(1), become(0)), do(title(0))},
		{"MaxNameBytes", do(), do(set(0))},
		{"MaxNameBytes", do(), do(cancel(0))},
		{"MaxTimerAhead", do(ahead(parley.MaxTimerAhead)), do(ahead(parley.MaxTimerAhead + 1))},
		{"MaxTimerAhead", do(ahead(0)), do(ahead(-1))},
		{"MaxCallBytes", do(call(bytes(parley.MaxCallBytes))), do(call(bytes(parley.MaxCallBytes + 1)))},
		{"MaxCallWithin", do(parley.Call{Name: "n", Service: "s", Within: parley.MaxCallWithin}), do(parley.Call{Name: "n", Service: "s", Within: parley.MaxCallWithin + 1})},
		{"MaxLineBytes", do(path("/" + name(parley.MaxLineBytes-1))), do(path("/" + name(parley.MaxLineBytes)))},
		{"MaxNameBytes", do(call(nil)), do(parley.Call{Name: "n"})},
		{"MaxNameBytes", do(call(nil)), do(parley.Call{Service: "s"})},
		{"MaxNameBytes", do(parley.CancelCall{Name: "n"}), do(parley.CancelCall{})},
		{"MaxCalls", many(parley.MaxCalls, calls), many(parley.MaxCalls+1, calls)},
		{"MaxAttributeBytes", do(parley.SetAttribute{Name: "n", Value: name(parley.MaxAttributeBytes)}), do(parley.SetAttribute{Name: "n", Value: name(parley.MaxAttributeBytes + 1)})},
		{"MaxNameBytes", do(parley.Tag{Name: "n"}), do(parley.Tag{})},
		{"MaxNameBytes", do(parley.Untag{Name: "n"}), do(parley.Untag{})},
		{"MaxNameBytes", do(parley.SetAttribute{Name: "n"}), do(parley.SetAttribute{Value: "v"})},
		{"hand-off to", do(parley.HandOff{To: parley.SpeakerPerson}), do(parley.HandOff{})},
		{"MaxTimerAhead", do(parley.HandOff{To: parley.SpeakerApp, For: parley.MaxTimerAhead}), do(parley.HandOff{To: parley.SpeakerApp, For: -1})},
		{"reserved", do(set(1)), do(parley.SetTimer{Name: "parley.speaker"})},
		{"reserved", do(set(1)), do(parley.CancelTimer{Name: "parley.speaker"})},
		{"empty text", do(text(1)), do(text(0))},
		{"*parley.Send", do(parley.Send{Text: "x"}), do(&parley.Send{Text: "x"})},
		{"<nil>", do(), do(nil)},
	}
}

func TestLimitsOfATurn(t *testing.T) {
	t.Parallel()
	run := func(f func(*parley.Turn) error) []string {
		return causes(parley.Step(&parley.Bot{Behavior: parley.BehaviorFunc(f)}, fresh(), said(1, "x"), drawn(1)))
	}
	for i, l := range slices.Concat(turnLimits(), sendLimits()) {
		t.Run(fmt.Sprint(i, " ", l.name), func(t *testing.T) {
			t.Parallel()
			diff(t, "within", nil, run(l.most))
			got := run(l.more)
			if len(got) != 1 || !strings.HasPrefix(got[0], "limit: ") || !strings.Contains(got[0], l.name) {
				t.Errorf("beyond: causes %q, want one that names %s", got, l.name)
			}
		})
	}
}

func TestTheFirstLimitIsNamed(t *testing.T) {
	t.Parallel()
	bot := &parley.Bot{Behavior: parley.BehaviorFunc(do(text(0), text(parley.MaxTextBytes+1)))}
	c := parley.Step(bot, fresh(), said(1, "x"), drawn(1))
	diff(t, "causes", []string{"limit: empty text in send"}, causes(c))
}

func TestMaxTimers(t *testing.T) {
	t.Parallel()
	set := func(i int) parley.Effect { return parley.SetTimer{Name: fmt.Sprint("t", i), In: time.Hour} }
	const each = parley.MaxEffects
	s := fresh()
	for from := 0; from < parley.MaxTimers; from += each {
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(many(each, func(i int) parley.Effect { return set(from + i) }))}
		s = parley.Step(bot, s, said(from+1, "x"), drawn(byte(from))).Next
	}
	if len(s.Timers) != parley.MaxTimers {
		t.Fatalf("%d live timers", len(s.Timers))
	}
	for _, c := range []struct {
		name    string
		effects []parley.Effect
		ok      bool
	}{
		{"one more", []parley.Effect{set(parley.MaxTimers)}, false},
		{"one anew", []parley.Effect{set(0)}, true},
		{"one for another", []parley.Effect{parley.CancelTimer{Name: "t0"}, set(parley.MaxTimers)}, true},
		{"one for another, the other way round", []parley.Effect{set(parley.MaxTimers), parley.CancelTimer{Name: "t0"}}, true},
		{"after the end", []parley.Effect{parley.End{}, set(parley.MaxTimers)}, true},
		{"among others", []parley.Effect{text(1), parley.Become{}, set(parley.MaxTimers)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bot := &parley.Bot{Behavior: parley.BehaviorFunc(do(c.effects...))}
			got := parley.Step(bot, s, said(1000, "x"), drawn(200))
			if ok := len(got.Dead) == 0; ok != c.ok {
				t.Errorf("causes %q", causes(got))
			}
			if len(got.Next.Timers) > parley.MaxTimers {
				t.Errorf("%d live timers", len(got.Next.Timers))
			}
		})
	}
}

func TestMaxCauseBytes(t *testing.T) {
	t.Parallel()
	for _, cause := range []string{strings.Repeat("é", parley.MaxCauseBytes), "\xff\x00" + strings.Repeat("x", 1<<20)} {
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return errors.New(cause) })}
		got := causes(parley.Step(bot, fresh(), said(1, "x"), drawn(1)))[0]
		if len(got) > parley.MaxCauseBytes || len(got) < parley.MaxCauseBytes-2 || !utf8.ValidString(got) {
			t.Errorf("a cause of %d bytes, valid %t", len(got), utf8.ValidString(got))
		}
	}
}

// A limit that nothing refers to limits nothing.
func TestEveryLimitIsUsed(t *testing.T) {
	t.Parallel()
	unused := map[string]bool{}
	for _, name := range declared(t, "limits.go") {
		unused[name] = true
	}
	if len(unused) < 15 {
		t.Fatalf("found only %d limits in limits.go", len(unused))
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."), d.IsDir() && d.Name() == "testdata":
			return filepath.SkipDir
		case path == "limits.go", !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		return strike(path, unused)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range unused {
		t.Errorf("%s is used nowhere", name)
	}
}

func declared(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, id := range spec.Names {
				names = append(names, id.Name)
			}
		}
		return true
	})
	return names
}

// strike takes the names that a file uses from unused: plain ones in this
// package, parley.Name elsewhere.
func strike(path string, unused map[string]bool) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
	if err != nil {
		return err
	}
	root := filepath.Dir(path) == "."
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "parley" {
				delete(unused, n.Sel.Name)
			}
		case *ast.Ident:
			if root {
				delete(unused, n.Name)
			}
		}
		return true
	})
	return nil
}
