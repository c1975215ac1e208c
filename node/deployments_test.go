package node_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var deployments = filepath.Join("..", "deployments")

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// clusterFile is what the nodes' configurations differ in.
type clusterFile struct {
	Listen, Admin string
	Cluster       struct {
		Bind, Messages string
		Join           []string
		Keys           []string
		TLS            map[string]string
	}
}

// The proxy knows the nodes by the addresses that they have, and each node has what
// it needs.
func TestCompose(t *testing.T) {
	t.Parallel()
	type service struct {
		Image       string
		Command     []string
		Volumes     []string
		Restart     string
		Networks    any
		Environment map[string]string
	}
	var file struct{ Services map[string]service }
	readYAML(t, filepath.Join(deployments, "compose.yaml"), &file)
	proxy := file.Services["haproxy"].Environment
	for i, address := range []string{"10.77.0.11", "10.77.0.12", "10.77.0.13"} {
		name := fmt.Sprintf("node%d", i+1)
		n := file.Services[name]
		if got := fmt.Sprint(n.Networks); got != fmt.Sprintf("map[cluster:map[ipv4_address:%s]]", address) {
			t.Errorf("%s is at %s", name, got)
		}
		if n.Image == "" || n.Restart != "always" || !strings.Contains(strings.Join(n.Command, " "), "serve") {
			t.Errorf("%s: %+v", name, n)
		}
		if v := strings.Join(n.Volumes, " "); !strings.Contains(v, "./cluster/"+name+":/etc/parley:ro") || !strings.Contains(v, " "+name+":/var/lib/parley") {
			t.Errorf("%s has %s", name, v)
		}
		variable := "PARLEY_" + strings.ToUpper(name)
		if proxy[variable] != address+":8080" || proxy[variable+"_ADMIN"] != address+":9090" {
			t.Errorf("the proxy looks for %s at %s and %s", name, proxy[variable], proxy[variable+"_ADMIN"])
		}
	}
	if got := file.Services["migrate"].Command; len(got) < 3 || got[1] != "migrate" {
		t.Errorf("migrate: %q", got)
	}
}

// makeCluster runs cluster.sh.
func makeCluster(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no openssl: apt-get install openssl")
		}
		t.Skip("SKIPPED, NOT TESTED: no openssl: apt-get install openssl")
	}
	for _, read := range []string{"cluster.sh", "cluster.yaml"} { // tells go test that results depend on them
		if _, err := os.ReadFile(filepath.Join(deployments, read)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{filepath.Join(deployments, "cluster.sh")}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestClusterFilesAreNodesOwn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	addresses := []string{"127.0.0.11", "127.0.0.12"}
	makeCluster(t, append([]string{dir}, addresses...)...)
	for i, address := range addresses {
		folder := filepath.Join(dir, fmt.Sprintf("node%d", i+1))
		var got clusterFile
		readYAML(t, filepath.Join(folder, "cluster.yaml"), &got)
		want := clusterFile{Listen: address + ":8080", Admin: address + ":9090"}
		want.Cluster.Bind, want.Cluster.Messages = address+":7946", address+":7947"
		want.Cluster.Join = []string{"127.0.0.11:7946", "127.0.0.12:7946"}
		want.Cluster.Keys = []string{"file:gossip.key"}
		want.Cluster.TLS = map[string]string{"certificate": "node.crt", "key": "node.key", "authority": "ca.crt"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		key, err := os.ReadFile(filepath.Join(folder, "gossip.key"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key))); err != nil || len(b) != 32 {
			t.Errorf("gossip.key: %d bytes, %v", len(b), err)
		}
		for _, secret := range []string{"node1/node.key", "ca.key", "gossip.key", "parley.env"} {
			if info, err := os.Stat(filepath.Join(dir, secret)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", secret, info.Mode(), err)
			}
		}
	}
}

// A second call adds a node, and leaves alone what is in use.
func TestClusterFilesStay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cluster")
	read := func() string {
		var all strings.Builder
		for _, name := range []string{"ca.key", "ca.crt", "gossip.key", "parley.env", "node1/node.key", "node1/node.crt", "node1/cluster.yaml"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		return all.String()
	}
	makeCluster(t, dir, "127.0.0.11")
	before := read()
	makeCluster(t, dir, "127.0.0.11", "127.0.0.12")
	if read() != before {
		t.Error("what was there has changed")
	}
	one, two := filepath.Join(dir, "node1"), filepath.Join(dir, "node2")
	if err := shakeHands(t, "127.0.0.12", two, one, one); err != nil {
		t.Error(err)
	}
}

// Nodes of one cluster trust each other, in both directions, at the addresses that
// they were made for; those of another cluster they don't.
func TestClusterCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, stranger := filepath.Join(dir, "this", "node1"), filepath.Join(dir, "this", "node2"), filepath.Join(dir, "other", "node2")
	makeCluster(t, filepath.Dir(one), "127.0.0.11", "127.0.0.12")
	makeCluster(t, filepath.Dir(stranger), "127.0.0.11", "127.0.0.12")
	for name, row := range map[string]struct {
		as             string
		server, client string
		trusts         string // the authority of this one, on the client's side
		good           bool
	}{
		"ByAddress":           {"127.0.0.11", one, two, two, true},
		"ByName":              {"node1", one, two, two, true},
		"Back":                {"127.0.0.12", two, one, one, true},
		"AnotherNode":         {"127.0.0.11", two, one, one, false},
		"ServerOfAnother":     {"127.0.0.12", stranger, one, one, false},
		"ClientOfAnother":     {"127.0.0.11", one, stranger, one, false},
		"AddressNobodyMadeIt": {"127.0.0.13", one, two, two, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := shakeHands(t, row.as, row.server, row.client, row.trusts); (err == nil) != row.good {
				t.Errorf("%v", err)
			}
		})
	}
}

// shakeHands lets one node connect to another by mutual TLS, and says what either
// has against it.
func shakeHands(t *testing.T, as, server, client, trusts string) error {
	t.Helper()
	here, there := net.Pipe()
	defer func() { _, _ = here.Close(), there.Close() }()
	served := make(chan error, 1)
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate(t, server)}, ClientCAs: authority(t, server), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	go func() {
		_, err := tls.Server(here, cfg).Write([]byte("!"))
		served <- errors.Join(err, here.Close())
	}()
	conn := tls.Client(there, &tls.Config{Certificates: []tls.Certificate{certificate(t, client)}, RootCAs: authority(t, trusts), ServerName: as, MinVersion: tls.VersionTLS13})
	_, err := conn.Read(make([]byte, 1)) // what the server has against the client comes after the handshake
	return errors.Join(err, there.Close(), <-served)
}

func certificate(t *testing.T, node string) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(node, "node.crt"), filepath.Join(node, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func authority(t *testing.T, node string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(node, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatal("no certificate of an authority")
	}
	return pool
}
