package node_test

import (
	"strings"
	"testing"

	"github.com/parleychat/parley/node"
)

// Which services are meant, and what is wrong with how it is said.
func TestReadConfigServices(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ text, err string }{
		"None":          {"", ""},
		"Short":         {`{name: crm, url: "https://crm.example"}`, ""},
		"Loopback":      {`{name: llm, url: "http://127.0.0.1:8090/v1"}`, ""},
		"Full":          {`{name: crm, url: "https://crm.example/v1", headers: {Authorization: "env:CRM"}, timeout: 30s, attempts: 3, within: 2m, concurrency: 64, breaker: {failures: 5, open_for: 10s}}`, ""},
		"Insecure":      {`{name: crm, url: "http://crm.internal", insecure: true}`, ""},
		"Twice":         {`{name: crm, url: "https://a.example"}, {name: crm, url: "https://b.example"}`, `services[1] "crm": the name is there already`},
		"Plain":         {`{name: crm, url: "http://crm.internal"}`, "loopback addresses only"},
		"NoURL":         {`{name: crm}`, `services[0] "crm": url`},
		"Password":      {`{name: crm, url: "https://u:hunter2@crm.example"}`, "belong into a header"},
		"ASecretItself": {`{name: crm, url: "https://crm.example", headers: {Authorization: "hunter2"}}`, "headers: Authorization: a secret is written as env:NAME"},
		"OurHeader":     {`{name: crm, url: "https://crm.example", headers: {Idempotency-Key: "env:A"}}`, "set by the request itself"},
		"TooLong":       {`{name: crm, url: "https://crm.example", within: 48h}`, "within"},
		"NoTime":        {`{name: a, url: "https://a.example"}, {name: crm, url: "https://crm.example", breaker: {open_for: soon}}`, "services[1].breaker.open_for: want a duration"},
		"UnknownKey":    {`{name: crm, url: "https://crm.example", retries: 3}`, "retries"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "services: [" + row.text + "]\napps: [{name: shop, secrets: [\"env:A\"], verify_tokens: [\"env:B\"]}]\n"
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
