package node_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

// FuzzConfig: whatever a configuration says, it is taken or refused with an error that
// doesn't repeat what was written in the place of a secret.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("..", "deployments", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, text := range []string{
		"", "{}", "apps: []", "apps: [null]", "http_bots: [{}]", "services: [{name: x, url: \"https://[\"}]", "a: &a [*a]",
		`apps: [{name: shop, secrets: ["env:A"], verify_tokens: ["env:B"], channels: [{brand: x, kind: messenger, id: "1", token: "env:T", bot: one}]}]`,
		`http_bots: [{name: shop, url: "https://bots.example", secret: hunter2, timeout: soon}]`,
		`services: [{name: crm, url: "https://crm.example", headers: {Authorization: hunter2}, breaker: {open_for: x}}]`,
		"drain_for: 1", "audit_every: -1s", "database: {url: hunter2, conns: -1}", "cluster: {join: [\"\"], keys: [hunter2]}",
	} {
		f.Add([]byte(text))
	}
	bots := []parley.Bot{mute("one")}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := write(t, t.TempDir(), "parley.yaml", string(text))
		cfg, err := node.ReadConfig(path, bots)
		if err != nil {
			if strings.Contains(err.Error(), "hunter2") && secretsOnly(string(text)) {
				t.Errorf("the secret is in %v", err)
			}
			return
		}
		again, err := node.ReadConfig(path, bots)
		if err != nil || !reflect.DeepEqual(cfg, again) {
			t.Errorf("read again: %+v, %v; at first: %+v", again, err, cfg)
		}
	})
}

// secretsOnly reports whether the word stands only where a secret does.
func secretsOnly(text string) bool {
	for _, at := range []string{"secret: hunter2", "Authorization: hunter2", "url: hunter2", "keys: [hunter2"} {
		text = strings.ReplaceAll(text, at, "")
	}
	return !strings.Contains(text, "hunter2")
}
