package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/parleychat/parley/cluster/clustertest"
)

// What befalls nodes.
const (
	nodeKilled          trouble = "a node killed"
	nodeKilledAgain     trouble = "a node killed, and again as it starts"
	nodesKilled         trouble = "all nodes killed"
	nodeStopped         trouble = "a node stopped (SIGSTOP)"
	nodeStoppedForLong  trouble = "a node stopped for long (SIGSTOP)"
	nodeCutOff          trouble = "a node cut off from the others"
	nodeUnheard         trouble = "a node that the others don't hear"
	nodesRolled         trouble = "a rolling restart"
	certificatesRotated trouble = "a new authority and new certificates"
	keysRotated         trouble = "a new key of gossip"
)

const (
	// readAgain is what the nodes take at most to read keys and certificates again.
	readAgain   = 5*time.Second + 500*time.Millisecond
	secondKey   = "gossip-next.key"
	adminSecret = "admin-token"
)

// begin starts a node, as an init system would: again, if it ends instead of serving, as
// it may while its store or its disk is in trouble.
func (m *mix) begin(i int) {
	m.Helper()
	for end := time.Now().Add(patience); ; m.rest(lookEvery) {
		n := m.houses[i].launch(m.T, asItself, m.configs[i])
		if n.serves(patience) {
			m.mu.Lock()
			m.nodes[i] = n
			m.mu.Unlock()
			return
		}
		if time.Now().After(end) {
			m.Fatalf("node %d doesn't serve:\n%s", i+1, n.logged())
		}
	}
}

// serves waits until a process serves; false: it has ended, or didn't within a time.
func (n *instance) serves(within time.Duration) bool {
	limit := time.After(within)
	for {
		n.mu.Lock()
		served := n.served > 0
		n.mu.Unlock()
		if served {
			return true
		}
		select {
		case <-n.ended:
			return false
		case <-limit:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *mix) killOne(a act) string {
	m.killed(a.node)
	m.rest(a.lasts)
	m.begin(a.node)
	return fmt.Sprintf("node %d, away for %.1f s", a.node+1, a.lasts.Seconds())
}

// killTwice kills a node, and the next process before it is a second old.
func (m *mix) killTwice(a act) string {
	m.killed(a.node)
	next := m.houses[a.node].launch(m.T, asItself, m.configs[a.node])
	m.rest(time.Duration(a.draw % uint64(time.Second)))
	next.kill()
	m.sim.Killed(time.Now())
	m.rest(a.lasts)
	m.begin(a.node)
	return fmt.Sprintf("node %d", a.node+1)
}

func (m *mix) killAll(a act) string {
	for i := range crewSize {
		m.killed(i)
	}
	m.rest(a.lasts)
	m.all(m.begin)
	return ""
}

func (m *mix) stopOne(a act) string {
	n := m.node(a.node)
	m.signal(n, syscall.SIGSTOP)
	m.sim.Frozen(time.Now())
	m.rest(a.lasts)
	from := time.Now()
	m.sim.Thawed(from)
	m.signal(n, syscall.SIGCONT)
	// What it was about to store has timed out: it may have gone to its spool.
	m.unspooled()
	m.sim.Spooled(from, time.Now())
	return fmt.Sprintf("node %d", a.node+1)
}

func (m *mix) cutOne(a act) string {
	m.sim.Frozen(time.Now())
	if err := m.spaces.Cut(m.Context(), a.node, a.trouble == nodeUnheard); err != nil {
		m.Fatal(err)
	}
	m.rest(a.lasts)
	if err := m.spaces.Mend(m.Context(), a.node); err != nil {
		m.Fatal(err)
	}
	m.sim.Thawed(time.Now())
	return fmt.Sprintf("node %d", a.node+1)
}

// roll drains one node after the other and starts it again.
func (m *mix) roll(act) string {
	codes := ""
	for i := range crewSize {
		m.count(m.nodes[i])
		m.nodes[i].terminate(m.T)
		if code := m.nodes[i].left(m.T); code != 0 {
			// It couldn't bring to an end what it had in hand, in the trouble that there is.
			codes += fmt.Sprintf(" node %d ended with %d;", i+1, code)
			m.sim.Frozen(time.Now())
			m.sim.Thawed(time.Now())
		}
		m.begin(i)
		m.rest(time.Second)
	}
	return codes
}

// twoKeys gives a node two files for keys of gossip, and a token of its own for
// administrators, as one does from the beginning who wants to exchange keys later.
func (m *mix) twoKeys(i int) {
	m.Helper()
	h := m.houses[i]
	b, err := os.ReadFile(filepath.Join(h.dir, clustertest.GossipKeyFile))
	if err != nil {
		m.Fatal(err)
	}
	h.write(m.T, secondKey, string(b))
	h.write(m.T, adminSecret, string(b))
	one := m.configs[i]["cluster"].(map[string]any) //nolint:forcetypeassert,errcheck // joining made it
	one["keys"] = []string{"file:" + clustertest.GossipKeyFile, "file:" + secondKey}
	m.configs[i] = m.configs[i].with("cluster", one).with("admin_token", "file:"+adminSecret)
}

// credentials are new ones.
func (m *mix) credentials() map[string]string {
	m.Helper()
	dir, files := m.TempDir(), map[string]string{}
	if err := clustertest.WriteCredentials(dir, time.Now()); err != nil {
		m.Fatal(err)
	}
	for _, name := range []string{clustertest.AuthorityFile, clustertest.CertificateFile, clustertest.KeyFile, clustertest.GossipKeyFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			m.Fatal(err)
		}
		files[name] = string(b)
	}
	return files
}

// everywhere puts a file in the place of another on all nodes, at once, and gives them
// the time to see it.
func (m *mix) everywhere(files map[string]string) {
	m.Helper()
	for _, h := range m.houses {
		for name, text := range files {
			next := h.write(m.T, name+".next", text)
			if err := os.Rename(next, filepath.Join(h.dir, name)); err != nil {
				m.Fatal(err)
			}
		}
	}
	m.rest(readAgain)
}

// rotateCertificates exchanges the authority and all certificates, as docs/operate.md
// says. Then a node is killed, so that connections are made anew.
func (m *mix) rotateCertificates(a act) string {
	next := m.credentials()
	old, err := os.ReadFile(filepath.Join(m.houses[0].dir, clustertest.AuthorityFile))
	if err != nil {
		m.Fatal(err)
	}
	m.everywhere(map[string]string{clustertest.AuthorityFile: string(old) + next[clustertest.AuthorityFile]})
	m.everywhere(map[string]string{clustertest.CertificateFile: next[clustertest.CertificateFile], clustertest.KeyFile: next[clustertest.KeyFile]})
	m.everywhere(map[string]string{clustertest.AuthorityFile: next[clustertest.AuthorityFile]})
	m.killed(a.node)
	m.begin(a.node)
	return fmt.Sprintf("then node %d killed", a.node+1)
}

// rotateKeys exchanges the key of gossip, as docs/operate.md says, and kills a node.
func (m *mix) rotateKeys(a act) string {
	next := m.credentials()[clustertest.GossipKeyFile]
	old, err := os.ReadFile(filepath.Join(m.houses[0].dir, clustertest.GossipKeyFile))
	if err != nil {
		m.Fatal(err)
	}
	m.everywhere(map[string]string{secondKey: next})
	m.everywhere(map[string]string{clustertest.GossipKeyFile: next, secondKey: string(old)})
	m.everywhere(map[string]string{secondKey: next})
	m.killed(a.node)
	m.begin(a.node)
	return fmt.Sprintf("then node %d killed", a.node+1)
}
