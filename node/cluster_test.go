package node_test

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/node"
)

func secrets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := clustertest.WriteCredentials(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	return dir
}

var files = node.TLSConfig{Certificate: clustertest.CertificateFile, Key: clustertest.KeyFile, Authority: clustertest.AuthorityFile}

func credentials(t *testing.T, dir string, now func() time.Time) *tls.Config {
	t.Helper()
	cfg, err := node.Credentials(files, dir, slog.New(slog.DiscardHandler), now)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// shake connects two sides, and reports what each says to it.
func shake(t *testing.T, client, server *tls.Config) (atClient, atServer error) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			err = greet(conn)
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return greet(tls.Client(conn, client)), <-served
}

// greet writes a word and reads the other's: in TLS 1.3 a client is done before the
// server has seen its certificate.
func greet(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("!")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// Nodes of one authority trust each other, and nobody else; nobody without a
// certificate is listened to.
func TestCredentials(t *testing.T) {
	t.Parallel()
	ours, theirs := secrets(t), secrets(t)
	a, b := credentials(t, ours, time.Now), credentials(t, ours, time.Now)
	stranger := credentials(t, theirs, time.Now)
	if c, s := shake(t, a, b); c != nil || s != nil {
		t.Errorf("of one authority: %v, %v", c, s)
	}
	if c, s := shake(t, stranger, b); c == nil && s == nil {
		t.Error("a stranger is listened to")
	}
	if c, _ := shake(t, a, stranger); c == nil {
		t.Error("a stranger is talked to")
	}
	if _, s := shake(t, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, b); s == nil { //nolint:gosec // it is the wrong one
		t.Error("somebody without a certificate is listened to")
	}
	late := credentials(t, ours, func() time.Time { return time.Now().Add(72 * time.Hour) })
	if _, s := shake(t, a, late); s == nil {
		t.Error("a certificate that has expired is taken")
	}
}

// Certificates are renewed while the node runs; what can't be read changes nothing.
func TestCredentialsAreRenewed(t *testing.T) {
	t.Parallel()
	old, renewed := secrets(t), secrets(t)
	var clock atomic.Int64
	start := time.Now()
	running := credentials(t, old, func() time.Time { return start.Add(time.Duration(clock.Load())) })
	fresh := credentials(t, renewed, time.Now)
	works := func() bool { c, s := shake(t, fresh, running); return c == nil && s == nil }
	if works() {
		t.Fatal("they know each other already")
	}
	put := func(name string, text []byte) {
		path := filepath.Join(old, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		at := start.Add(time.Duration(clock.Load()) + time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	put(clustertest.CertificateFile, []byte("half of it"))
	clock.Add(int64(10 * time.Second))
	if c, s := shake(t, running, fresh); c == nil && s == nil {
		t.Error("what can't be read is in use")
	}
	for _, name := range []string{clustertest.CertificateFile, clustertest.KeyFile, clustertest.AuthorityFile} {
		b, err := os.ReadFile(filepath.Join(renewed, name))
		if err != nil {
			t.Fatal(err)
		}
		put(name, b)
	}
	clock.Add(int64(10 * time.Second))
	if !works() {
		t.Error("the new certificates aren't in use")
	}
}

func TestGossipKeys(t *testing.T) {
	t.Parallel()
	dir := secrets(t)
	keys, err := node.GossipKeys([]node.Secret{"file:" + clustertest.GossipKeyFile}, dir)
	if err != nil || len(keys) != 1 || len(keys[0]) != 32 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, bad := range []string{"short", base64.StdEncoding.EncodeToString([]byte("sixteen bytes!!!")), "not base64 at all, whatever else it is"} {
		write(t, dir, "bad.key", bad)
		_, err := node.GossipKeys([]node.Secret{"file:bad.key"}, dir)
		if err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestClusterConfig(t *testing.T) {
	t.Parallel()
	const app = `
store: postgres
database: {url: "env:DB"}
apps: [{name: shop, secrets: ["env:A"], verify_tokens: ["env:B"]}]
`
	for name, c := range map[string]struct{ text, wants string }{
		"Whole": {app + `
roles: [actors, egress]
cluster: {bind: "10.0.0.1:7946", messages: "10.0.0.1:7947", join: ["10.0.0.2:7946"], keys: ["file:k"], tls: {certificate: c, key: k, authority: a}}`, ""},
		"OpenOnLoopback":  {app + `cluster: {bind: "127.0.0.1:7946", messages: "[::1]:7947"}`, ""},
		"OpenToOthers":    {app + `cluster: {bind: "127.0.0.1:7946", messages: "10.0.0.1:7947"}`, "cluster.tls"},
		"GossipOpen":      {app + `cluster: {bind: "0.0.0.0:7946", messages: "127.0.0.1:7947"}`, "cluster.keys"},
		"HalfOfTLS":       {app + `cluster: {bind: "127.0.0.1:7946", messages: "127.0.0.1:7947", tls: {certificate: c}}`, "needed together"},
		"NoPort":          {app + `cluster: {bind: "127.0.0.1:7946", messages: "127.0.0.1"}`, "cluster.messages"},
		"NoOneAddress":    {app + `cluster: {bind: "127.0.0.1:7946", messages: "0.0.0.0:7947", keys: ["file:k"], tls: {certificate: c, key: k, authority: a}}`, "advertise_messages"},
		"KeyItself":       {app + `cluster: {bind: "127.0.0.1:7946", messages: "127.0.0.1:7947", keys: ["c2VjcmV0"]}`, "env:NAME"},
		"EmbeddedStore":   {strings.Replace(app, "store: postgres", "store: embedded", 1) + `cluster: {bind: "127.0.0.1:7946", messages: "127.0.0.1:7947"}`, "store postgres"},
		"UnknownRole":     {app + `roles: [actor]`, "roles"},
		"RolesOfOneAlone": {app + `roles: [ingress]`, "needs all of them"},
		"NegativeDrain":   {app + `drain_for: -1s`, "drain_for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := node.ReadConfig(write(t, t.TempDir(), "parley.yaml", c.text), nil)
			switch {
			case c.wants == "" && err != nil:
				t.Error(err)
			case c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)):
				t.Errorf("want an error with %q, have %v", c.wants, err)
			}
		})
	}
}
