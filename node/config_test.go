package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

func mute(name string) parley.Bot {
	return parley.Bot{Name: name, Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadConfig(t *testing.T) {
	t.Parallel()
	t.Run("FillsInDefaults", func(t *testing.T) {
		t.Parallel()
		path := write(t, t.TempDir(), "parley.yaml", `apps: [{name: shop, secrets: ["env:A"], verify_tokens: ["env:B"]}]`)
		cfg, err := node.ReadConfig(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Listen != "127.0.0.1:8080" || cfg.Admin != "127.0.0.1:9090" || cfg.Data != "parley-data" ||
			cfg.DoubtfulWait != 30*time.Second || cfg.HistoryFor != parley.HistoryFor ||
			cfg.Graph != (node.Graph{URL: "https://graph.facebook.com", Version: "v26.0"}) {
			t.Errorf("defaults: %+v", cfg)
		}
	})
	t.Run("SaysAllThatIsWrong", func(t *testing.T) {
		t.Parallel()
		path := write(t, t.TempDir(), "parley.yaml", `
apps:
  - {name: a, secrets: [], verify_tokens: ["env:B"]}
  - {name: a, secrets: ["env:A"], verify_tokens: ["env:B"], channels: [
      {brand: x, kind: fax, id: "1", token: "env:T"}, {brand: x, kind: messenger, id: "2", token: "env:T", bot: nobody},
      {brand: x, kind: messenger, id: "3", token: "env:T"}, {brand: y, kind: messenger, id: "3", token: "env:T"}]}
`)
		_, err := node.ReadConfig(path, []parley.Bot{mute("one"), mute("two")})
		if err == nil {
			t.Fatal("taken")
		}
		for _, want := range []string{"apps[0]", "secrets", "unique", `"fax"`, `"nobody"`, "one, two", "messenger 3 is there already"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error lacks %q: %v", want, err)
			}
		}
	})
	t.Run("RefusesAnEmptyFile", func(t *testing.T) {
		t.Parallel()
		if _, err := node.ReadConfig(write(t, t.TempDir(), "parley.yaml", ""), nil); err == nil {
			t.Error("taken")
		}
	})
}

// Which store is meant, and what is wrong with how it is said.
func TestReadConfigStore(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ text, err string }{
		"Nothing":            {"", ""},
		"Embedded":           {"store: embedded", ""},
		"EmbeddedAfterAll":   {"store: embedded\ndatabase: {url: \"env:DB\"}", ""},
		"Postgres":           {"store: postgres\ndatabase: {url: \"env:DB\", connections: 20, connect_timeout: 3s}", ""},
		"OnlyTheDatabase":    {"database: {url: \"file:db\"}", ""},
		"WithoutDatabase":    {"store: postgres", "database.url"},
		"AnotherStore":       {"store: oracle", `"oracle"`},
		"ASecretItself":      {"database: {url: \"postgres://u:hunter2@h/d\"}", "env:NAME or file:PATH"},
		"TooManyConnections": {"database: {url: \"env:DB\", connections: 5000}", "database.connections"},
		"NegativeNumber":     {"database: {url: \"env:DB\", connections: -1}", "database.connections"},
		"NegativeTime":       {"database: {url: \"env:DB\", connect_timeout: -1s}", "database.connect_timeout"},
		"NoTime":             {"database: {url: \"env:DB\", connect_timeout: soon}", "[1:44] database.connect_timeout: want a duration"},
		"UnknownKey":         {"database: {dsn: \"env:DB\"}", "dsn"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := row.text + "\napps: [{name: shop, secrets: [\"env:A\"], verify_tokens: [\"env:B\"]}]\n"
			_, err := node.ReadConfig(write(t, t.TempDir(), "parley.yaml", text), nil)
			switch {
			case row.err == "" && err != nil:
				t.Error(err)
			case row.err == "":
			case err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), "hunter2"):
				t.Errorf("error %v, want one with %q and without the password", err, row.err)
			}
		})
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	const value = "s3cret"
	dir := t.TempDir()
	write(t, dir, "here", "  "+value+"\n")
	write(t, dir, "empty", "\n")
	for name, row := range map[string]struct {
		secret    node.Secret
		want, err string
	}{
		"Variable":      {"env:PATH", os.Getenv("PATH"), ""}, // one that is always set
		"UnsetVariable": {"env:NODE_TEST_UNSET", "", "NODE_TEST_UNSET"},
		"File":          {"file:here", value, ""},
		"AbsoluteFile":  {node.Secret("file:" + filepath.Join(dir, "here")), value, ""},
		"MissingFile":   {"file:there", "", "there"},
		"EmptyFile":     {"file:empty", "", "empty"},
		"Literal":       {value, "", "env:NAME or file:PATH"},
		"Nothing":       {"", "", "env:NAME or file:PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := row.secret.Resolve(dir)
			if got != row.want {
				t.Errorf("read %d bytes, want %d", len(got), len(row.want))
			}
			switch {
			case row.err == "" && err != nil:
				t.Error(err)
			case row.err == "":
			case err == nil || !strings.Contains(err.Error(), row.err) || strings.Contains(err.Error(), value):
				t.Errorf("error %v, want one with %q and without the secret", err, row.err)
			}
		})
	}
}

// TestHTTPBotConfig: a bot over HTTP wants a secret and a public address, and channels may name it.
func TestHTTPBotConfig(t *testing.T) {
	t.Parallel()
	read := func(bot string) error {
		path := write(t, t.TempDir(), "parley.yaml", `
http_bots: [`+bot+`]
apps: [{name: a, secrets: ["env:A"], verify_tokens: ["env:B"], channels: [{brand: x, kind: messenger, id: "1", token: "env:T", bot: shop}]}]
`)
		_, err := node.ReadConfig(path, []parley.Bot{mute("own")})
		return err
	}
	for bot, want := range map[string]string{
		`{name: shop, url: "https://bots.example/shop", secret: "env:S"}`:                    "",
		`{name: shop, url: "http://127.0.0.1:8070", secret: "env:S", allow_private: true}`:   "",
		`{name: shop, url: "https://10.0.0.1/shop", secret: "env:S"}`:                        "not of the public internet",
		`{name: shop, url: "http://bots.example", secret: "env:S"}`:                          "http is for loopback",
		`{name: shop, url: "https://bots.example"}`:                                          "secret: without it",
		`{name: shop, url: "https://bots.example", secret: "hunter2"}`:                       "not as the secret itself",
		`{name: other, url: "https://bots.example", secret: "env:S"}`:                        `bot "shop" is not among`,
		`{name: own, url: "https://bots.example", secret: "env:S"}`:                          "a name of its own",
		`{name: shop, url: "https://bots.example", secret: "env:S", timeout: "soon"}`:        "http_bots[0].timeout",
		`{name: shop, url: "https://bots.example", secret: "env:S", within: "48h", x: "no"}`: "x",
	} {
		err := read(bot)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", bot, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the secret is in %v", err)
		}
	}
}
