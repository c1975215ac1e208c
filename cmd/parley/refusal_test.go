package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const validHead = `listen: 127.0.0.1:0
admin: 127.0.0.1:0
data: data
`

// valid is a configuration that only lacks what a test takes away.
const valid = validHead + `apps:
  - name: shop
    secrets: [file:secret]
    verify_tokens: [file:verify]
    channels:
      - brand: acme
        kind: messenger
        id: "1101"
        token: file:token
        bot: greeter
`

// A wrong configuration is refused with words that help, and never with a
// secret.
func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	const literal = "EAAGm0PX4ZCpsBAliteralsecret"
	for name, row := range map[string]struct {
		old, replacement string
		words            []string
	}{
		"UnknownKey":          {"    verify_tokens:", "    colour: blue\n    verify_tokens:", []string{"[7:5]", "colour"}},
		"UnknownKeyOnTop":     {"data: data", "date: data", []string{"[3:1]", "date"}},
		"WrongType":           {`name: shop`, `name: [shop]`, []string{"[5:"}},
		"WrongDuration":       {"data: data", "data: data\ndoubtful_wait: soon", []string{"[4:"}},
		"NegativeDuration":    {"data: data", "data: data\ndoubtful_wait: -1s", []string{"doubtful_wait"}},
		"NotYAML":             {"apps:", "apps: [", []string{"parley.yaml"}},
		"UnsetVariable":       {"[file:secret]", "[env:SHOP_APP_SECRET_UNSET]", []string{"SHOP_APP_SECRET_UNSET", "not set", "shop"}},
		"MissingFile":         {"file:token", "file:no-such-token", []string{"no-such-token", "acme/messenger/1101"}},
		"LiteralSecret":       {"[file:secret]", "[" + literal + "]", []string{"env:NAME or file:PATH", "app shop: secrets"}},
		"LiteralToken":        {"file:token", literal, []string{"env:NAME or file:PATH", "acme/messenger/1101"}},
		"LiteralAmongUnknown": {"    secrets: [file:secret]", "    colour: blue\n    secrets: [" + literal + "]", []string{"colour"}},
		"UnknownBot":          {"bot: greeter", "bot: barista", []string{"barista", "greeter", "pizza", "tally"}},
		"UnknownKind":         {"kind: messenger", "kind: telegram", []string{"telegram", "whatsapp_account"}},
		"NoToken":             {"        token: file:token\n", "", []string{"token"}},
		"NoSecrets":           {"[file:secret]", "[]", []string{"secrets"}},
		"SlashInName":         {"name: shop", "name: shop/2", []string{"shop/2"}},
		"WrongFallback":       {"    channels:", "    fallback: {brand: acme, kind: messenger}\n    channels:", []string{"fallback"}},
		"NoApps":              {valid[len(validHead):], "", []string{"at least one app"}},
		"AddressTaken":        {"listen: 127.0.0.1:0", "listen: 203.0.113.1:1", []string{"listen for webhooks", "203.0.113.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(valid, row.old, row.replacement, 1)
			if text == valid {
				t.Fatal("nothing is wrong with this one")
			}
			h := newHouse(t)
			text = strings.Replace(text, "data: data", "data: "+h.data(), 1)
			e := run(t, "", "serve", "--config", h.write(t, "parley.yaml", text))
			e.want(t, 1, row.words...)
			for _, secret := range []string{literal, appSecret, pageToken} {
				if strings.Contains(e.errors+e.out, secret) {
					t.Errorf("a secret is shown:\n%s", e.errors)
				}
			}
		})
	}
}

// A directory has one process at a time.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	h := newHouse(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful"))
	n := h.start(t, asFateful, cfg)
	second := h.launch(t, asFateful, cfg)
	if code := second.left(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, words := range []string{h.data(), "stop the process that uses it"} {
		if !strings.Contains(second.logged(), words) {
			t.Errorf("standard error lacks %q:\n%s", words, second.logged())
		}
	}
	n.tell(t, "u1", "1", "say a") // the first goes on
	g.heard(t, "u1", "said a #1")
	n.stop(t)
}

// What a newer version wrote is left alone.
func TestNewerStore(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	h := newHouse(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful"))
	h.start(t, asFateful, cfg).stop(t)
	mark := filepath.Join(h.data(), "PARLEY")
	const newer = "parley embedded store, format 99\n"
	if err := os.WriteFile(mark, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	n := h.launch(t, asFateful, cfg)
	if code := n.left(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, words := range []string{h.data(), "format 99", "newer version"} {
		if !strings.Contains(n.logged(), words) {
			t.Errorf("standard error lacks %q:\n%s", words, n.logged())
		}
	}
	if b, err := os.ReadFile(mark); err != nil || string(b) != newer {
		t.Errorf("the mark is now %q (%v)", b, err)
	}
}

// A directory of something else is left alone.
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	h := newHouse(t)
	if err := os.Mkdir(h.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.data(), "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := h.launch(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	if code := n.left(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(n.logged(), "thesis.txt") {
		t.Errorf("standard error doesn't say what is there:\n%s", n.logged())
	}
}
