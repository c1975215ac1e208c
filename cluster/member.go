package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// Role is a kind of work that a member does.
type Role string

// The roles.
const (
	Ingress Role = "ingress" // takes webhooks
	Actors  Role = "actors"  // owns conversations
	Egress  Role = "egress"  // owns channels, and sends
	Console Role = "console" // serves operators
)

// Roles are all of them.
func Roles() []Role { return []Role{Ingress, Actors, Egress, Console} }

// Member is one run of a process. The zero values of what an older program doesn't
// tell are what it means.
type Member struct {
	// Name is unique for ever. Of two members at one address the one with the
	// greater name is taken for the one that is there, so a name should end in
	// something that grows with time.
	Name string
	// Addr is where other members send messages to, host:port. Shards go by it, so
	// that a process which comes back at its address gets them back.
	Addr string
	// Roles are what it does.
	Roles []Role
	// Version is that of the program, for people.
	Version string
	// Format is the newest format of what is stored and sent that it reads: nobody
	// may write a newer one while it is there.
	Format int
	// Reads is what else it reads, in the words of whoever runs the members; nothing
	// here looks into it.
	Reads string
	// Draining says that it gives up what it owns.
	Draining bool
	// Unfit says that it can't work for the time being, as it doesn't reach the store.
	Unfit bool
}

// Does reports whether the member has a role.
func (m *Member) Does(r Role) bool { return slices.Contains(m.Roles, r) }

func (m *Member) equal(o *Member) bool {
	return m.Name == o.Name && m.Addr == o.Addr && slices.Equal(m.Roles, o.Roles) &&
		m.Version == o.Version && m.Format == o.Format && m.Reads == o.Reads && m.Draining == o.Draining && m.Unfit == o.Unfit
}

const nameMax = 128 // bytes; gossip repeats it all the time

// Validate says what is wrong with a member.
func (m *Member) Validate() error {
	if m.Name == "" || len(m.Name) > nameMax || strings.ContainsFunc(m.Name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("name %q: want 1 to %d characters, visible ASCII", m.Name, nameMax)
	}
	if _, port, err := net.SplitHostPort(m.Addr); err != nil || port == "" {
		return fmt.Errorf("address %q: want host:port", m.Addr)
	}
	for _, r := range m.Roles {
		if !slices.Contains(Roles(), r) {
			return fmt.Errorf("role %q: want one of %q", r, Roles())
		}
	}
	_, err := m.tell()
	return err
}

// told is what a member tells of itself in gossip, beside its name. Letters, as it
// is repeated all the time. Fields may be added; those that are here keep their
// meaning for ever.
type told struct {
	Addr     string `json:"a"`
	Roles    []Role `json:"r,omitempty"`
	Version  string `json:"v,omitempty"`
	Format   int    `json:"f,omitempty"`
	Draining bool   `json:"d,omitempty"`
	Unfit    bool   `json:"u,omitempty"`
	Reads    string `json:"b,omitempty"`
}

// tell is the encoded form.
func (m *Member) tell() ([]byte, error) {
	b, err := json.Marshal(told{m.Addr, m.Roles, m.Version, m.Format, m.Draining, m.Unfit, m.Reads})
	if err != nil {
		return nil, fmt.Errorf("encode member: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("address, version and what it reads take %d bytes of gossip: want %d at most", len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

var errMember = errors.New("what a member tells of itself can't be read")

// hear is the inverse. Roles that aren't known here are kept: others may know them.
func hear(name string, b []byte) (Member, error) {
	var t told
	if err := json.Unmarshal(b, &t); err != nil {
		return Member{}, errMember
	}
	if _, _, err := net.SplitHostPort(t.Addr); err != nil {
		return Member{}, errMember
	}
	return Member{
		Name: name, Addr: t.Addr, Roles: t.Roles, Version: t.Version, Format: t.Format, Reads: t.Reads, Draining: t.Draining, Unfit: t.Unfit,
	}, nil
}
