package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Namespaces are a network namespace for each of some processes and a bridge between
// them, on which this process is, too. They need root, and the program ip.
type Namespaces struct {
	id    int
	nodes int
}

// ErrNoNamespaces says that there can't be any.
var ErrNoNamespaces = errors.New("network namespaces need Linux and root")

// NewNamespaces makes them. The addresses are those that are set aside for tests of
// networks (RFC 2544).
func NewNamespaces(ctx context.Context, nodes int) (*Namespaces, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNoNamespaces
	}
	n := &Namespaces{id: os.Getpid() % 250, nodes: nodes} //nolint:mnd // below 255
	err := ip(ctx, "link add %s type bridge", n.bridge())
	if err == nil {
		err = ip(ctx, "addr add %s/24 dev %s", n.Here(), n.bridge())
	}
	if err == nil {
		err = ip(ctx, "link set %s up", n.bridge())
	}
	for i := 0; i < nodes && err == nil; i++ {
		err = n.plug(ctx, i)
	}
	if err != nil {
		return nil, errors.Join(err, n.Close(context.WithoutCancel(ctx)))
	}
	return n, nil
}

// plug makes a node's namespace and its cable to the bridge.
func (n *Namespaces) plug(ctx context.Context, i int) error {
	space, near, far := n.space(i), fmt.Sprintf("prl%d-%d", n.id, i), fmt.Sprintf("prl%d-%dn", n.id, i)
	for _, command := range []string{
		"netns add " + space,
		"link add " + near + " type veth peer name " + far,
		"link set " + near + " master " + n.bridge(),
		"link set " + near + " up",
		"link set " + far + " netns " + space,
		"-n " + space + " addr add " + n.Address(i) + "/24 dev " + far,
		"-n " + space + " link set " + far + " up",
		"-n " + space + " link set lo up",
	} {
		if err := ip(ctx, "%s", command); err != nil {
			return err
		}
	}
	return nil
}

func (n *Namespaces) bridge() string     { return fmt.Sprintf("prl%d", n.id) }
func (n *Namespaces) space(i int) string { return fmt.Sprintf("parley-%d-%d", n.id, i+1) }

// Here is the address of this process among them.
func (n *Namespaces) Here() string { return fmt.Sprintf("198.18.%d.254", n.id) }

// Address is that of process i.
func (n *Namespaces) Address(i int) string { return fmt.Sprintf("198.18.%d.%d", n.id, i+1) }

// Within are the words that, before a command, make it process i.
func (n *Namespaces) Within(i int) []string { return []string{"ip", "netns", "exec", n.space(i)} }

// Cut lets nothing through between one and the others; one way: from it to
// the others.
func (n *Namespaces) Cut(ctx context.Context, node int, oneWay bool) error {
	return n.routes(ctx, "add", node, !oneWay)
}

// Mend ends what Cut began.
func (n *Namespaces) Mend(ctx context.Context, node int) error {
	_ = n.routes(ctx, "del", node, true) // half of them aren't there if it was one way
	return nil
}

func (n *Namespaces) routes(ctx context.Context, do string, node int, both bool) error {
	var errs []error
	for i := range n.nodes {
		if i == node {
			continue
		}
		errs = append(errs, ip(ctx, "-n %s route %s blackhole %s", n.space(node), do, n.Address(i)))
		if both {
			errs = append(errs, ip(ctx, "-n %s route %s blackhole %s", n.space(i), do, n.Address(node)))
		}
	}
	return errors.Join(errs...)
}

// Close removes all of it.
func (n *Namespaces) Close(ctx context.Context) error {
	for i := range n.nodes {
		_ = ip(ctx, "netns del %s", n.space(i)) // with its cable; it may not have come so far
	}
	return ip(ctx, "link del %s", n.bridge())
}

func ip(ctx context.Context, format string, args ...any) error {
	words := strings.Fields(fmt.Sprintf(format, args...))
	out, err := exec.CommandContext(ctx, "ip", words...).CombinedOutput() //nolint:gosec // our own words
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
