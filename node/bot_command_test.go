package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
	"github.com/parleychat/parley/persistence/embedded"
)

var errSoldOut = errors.New("a pizza that isn't sold any more")

// orders is a bot of which the second version has several pizzas.
func orders(version int) parley.Bot {
	type one struct{ Pizza string }
	type several struct{ Pizzas []string }
	return parley.Bot{
		Name: "orders", Version: version,
		Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil }),
		Named:    map[string]parley.Behavior{"size": parley.BehaviorFunc(func(*parley.Turn) error { return nil })},
		Migrations: map[int]parley.Migration{1: parley.Migrate(func(o one) (several, error) {
			if o.Pizza == "sold out" {
				return several{}, errSoldOut
			}
			return several{[]string{o.Pizza}}, nil
		})},
	}
}

// stored is an embedded store with conversations in it, and its folder.
func stored(t *testing.T, snapshots ...parley.Snapshot) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "data")
	s, err := embedded.Open(embedded.Config{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	for i := range snapshots {
		snapshots[i].Conversation = parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "1"}, Contact: parley.Contact(fmt.Sprintf("user:%d", i))}
		snapshots[i].Version = parley.Version{Number: 1, Token: 1}
		errs, err := s.Commit(t.Context(), []parley.Commit{{Conversation: snapshots[i].Conversation, Next: snapshots[i]}})
		if err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func order(version int, state, behavior string) parley.Snapshot {
	return parley.Snapshot{Bot: "orders", BotVersion: version, State: []byte(state), Behavior: behavior}
}

// mixed are conversations of all sorts.
func mixed() []parley.Snapshot {
	other := order(3, `{}`, "")
	other.Bot = "former"
	return []parley.Snapshot{
		order(1, `{"Pizza":"Salami"}`, ""), order(0, `{"Pizza":"Funghi"}`, "size"), order(1, `{"Pizza":"sold out"}`, ""),
		order(1, `{"Pizza":17}`, ""), order(1, `{"Pizza":18}`, ""), order(2, `{"Pizzas":["Salami"]}`, "toppings"), order(3, `{}`, ""),
		order(2, "", ""),
		{},
		other,
	}
}

// contents are the conversations in a store.
func contents(t *testing.T, folder string) (all []parley.Snapshot) {
	t.Helper()
	s, err := embedded.Open(embedded.Config{Dir: folder, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Snapshots(t.Context(), parley.Conversation{}, 1000, func(s parley.Snapshot, err error) {
		if err != nil {
			t.Error(err)
		}
		all = append(all, s)
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// check runs parley bot check.
func check(t *testing.T, bots []parley.Bot, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = node.CommandOf(t.Context(), bots, &o, &e, append([]string{"bot", "check"}, args...)...)
	return code, o.String(), e.String()
}

// What a check tells people, and what programs: the same, with nothing of what is in a
// conversation but the developer's own words.
func TestBotCheck(t *testing.T) {
	t.Parallel()
	folder := stored(t, mixed()...)
	for file, args := range map[string][]string{"all.txt": nil, "all.json": {"--json"}, "short.txt": {"--samples", "1", "--bot", "orders"}} {
		bot := orders(2)
		if file == "short.txt" {
			bot.Fallback = bot.Behavior
		}
		code, out, errs := check(t, []parley.Bot{bot, {Name: "another", Version: 4, Behavior: orders(1).Behavior}}, append(args, "--data", folder)...)
		if code != 1 || errs != "" {
			t.Errorf("exit code %d, %s", code, errs)
		}
		golden(t, filepath.Join("..", "botcheck", file), out)
		for _, secret := range []string{"Salami", "17", "18"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s tells what is in a conversation: %s", file, secret)
			}
		}
	}
}

// If everything can go on the command succeeds, and stored is what was.
func TestBotCheckWritesNothing(t *testing.T) {
	t.Parallel()
	folder := stored(t, order(1, `{"Pizza":"Salami"}`, ""), order(2, `{"Pizzas":["Salami"]}`, "size"))
	before := contents(t, folder)
	for range 2 {
		code, out, errs := check(t, []parley.Bot{orders(2)}, "--data", folder, "--json")
		var told struct {
			Failing int
			Bots    []struct {
				Versions []struct{ Version, Conversations, Failing int }
			}
		}
		if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || errs != "" {
			t.Fatalf("exit code %d, %s, %v: %s", code, errs, err, out)
		}
		type v = struct{ Version, Conversations, Failing int }
		if d := cmp.Diff([]v{{1, 1, 0}, {2, 1, 0}}, told.Bots[0].Versions); d != "" || told.Failing != 0 {
			t.Errorf("failing %d, %s", told.Failing, d)
		}
	}
	if d := cmp.Diff(before, contents(t, folder)); d != "" || len(before) != 2 {
		t.Errorf("%d were stored, and the check has changed them: %s", len(before), d)
	}
}

// What is wrong with the call, or with the place, is said.
func TestBotCheckRefuses(t *testing.T) {
	t.Parallel()
	folder := stored(t)
	used := filepath.Join(t.TempDir(), "used")
	s, err := embedded.Open(embedded.Config{Dir: used})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	broken := orders(2)
	broken.Migrations[2] = broken.Migrations[1]
	for want, row := range map[string]struct {
		bot  parley.Bot
		args []string
	}{
		"not among those of this program: orders": {orders(2), []string{"--data", folder, "--bot", "pizza"}},
		"want one of them":                        {orders(2), []string{"--data", folder, "--database", "env:X"}},
		"or check a backup of it":                 {orders(2), []string{"--data", used}},
		"read configuration":                      {orders(2), []string{"-c", filepath.Join(folder, "none.yaml")}},
		"migration from version 2":                {broken, []string{"--data", folder}},
	} {
		code, out, errs := check(t, []parley.Bot{row.bot}, row.args...)
		if code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%v: exit code %d, want 1 and %q: %s%s", row.args, code, want, out, errs)
		}
	}
	if code, _, errs := check(t, []parley.Bot{orders(2)}, "--data", filepath.Join(folder, "none")); code != 1 || errs == "" {
		t.Errorf("no store: exit code %d, %q", code, errs)
	}
	if _, err := os.Stat(filepath.Join(folder, "none")); err == nil {
		t.Error("it has made a store where there was none")
	}
}
