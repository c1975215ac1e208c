package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

// clusterCommand is the admin API for people.
type clusterCommand struct {
	Members clusterMembers `cmd:"" help:"List the members that a node sees."`
	Status  clusterStatus  `cmd:"" help:"Show how the cluster is: shards, conversations, what waits, and what to look at."`
	Where   clusterWhere   `cmd:"" help:"Say which node serves a conversation, and which sends for its channel."`
	Drain   clusterDrain   `cmd:"" help:"Make a node give up what it owns, to stop it without a gap."`
}

type clusterMembers struct{ adminPlace }

// Run prints the members.
func (c clusterMembers) Run(ctx context.Context, sys *system) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	members, raw, err := client.members(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(sys.out, raw)
	}
	return printMembers(sys.out, members)
}

type clusterStatus struct{ adminPlace }

// Run prints the status.
func (c clusterStatus) Run(ctx context.Context, sys *system) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	s, raw, err := client.status(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(sys.out, raw)
	}
	return printStatus(sys.out, &s)
}

type clusterWhere struct {
	adminPlace
	Conversation string `arg:"" help:"brand/kind/channel/contact, as logs show it: acme/messenger/1134713619900975/user:7012."`
}

// Run prints where a conversation is served.
func (c clusterWhere) Run(ctx context.Context, sys *system) error {
	if _, err := parley.ParseConversation(c.Conversation); err != nil {
		return err // without asking anybody
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var p console.Place
	raw, err := client.call(ctx, http.MethodGet, "/api/cluster/where?conversation="+url.QueryEscape(c.Conversation), nil, &p)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(sys.out, raw)
	}
	return printPlace(sys.out, &p)
}

type clusterDrain struct {
	adminPlace
	Member   string        `arg:"" optional:"" help:"The node to drain, by its name or the beginning of it; without one, the node that is asked."`
	Wait     bool          `default:"true" negatable:"" help:"Stay until nothing is left, with a line of progress each second."`
	Deadline time.Duration `default:"60s" help:"How long to stay. Exit code 1 if something is left then; the node goes on."`
	Pace     time.Duration `default:"1s" hidden:"" help:"Between two lines."`
}

// Help is shown by parley cluster drain --help.
func (clusterDrain) Help() string {
	return `The node turns "not ready", so that a proxy in front sends it no more webhooks, and
hands its conversations and channels over to the others, one shard after another,
while it goes on serving those that it still has. The end is when it holds nothing,
or is gone. SIGTERM to the node does the same.`
}

// Run drains a member.
func (c clusterDrain) Run(ctx context.Context, sys *system) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	members, _, err := client.members(ctx)
	if err != nil {
		return err
	}
	member, err := pick(members, c.Member)
	if err != nil {
		return err
	}
	var begun struct{}
	if _, err := client.call(ctx, http.MethodPost, "/api/cluster/drain", map[string]string{"member": member.Name}, &begun); err != nil {
		return err
	}
	if !c.Wait {
		_, _ = fmt.Fprintf(sys.errors, "%s drains: parley cluster status shows how far it is\n", member.Name)
		return nil
	}
	return drainWatch{client: client, member: member, out: sys.out, json: c.JSON, pace: c.Pace}.run(ctx, c.Deadline)
}

// pick finds the member that is meant: by its whole name, by a beginning that only
// one has, or the one that was asked.
func pick(members []console.Member, meant string) (console.Member, error) {
	var fit []console.Member
	for _, m := range members {
		if meant == "" && m.Self || meant == m.Name {
			return m, nil
		}
		if meant != "" && strings.HasPrefix(m.Name, meant) {
			fit = append(fit, m)
		}
	}
	if len(fit) == 1 {
		return fit[0], nil
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Name
	}
	if len(fit) > 1 {
		return console.Member{}, fmt.Errorf("%q is the beginning of more than one name among %s", meant, strings.Join(names, ", "))
	}
	return console.Member{}, fmt.Errorf("there is no member %q, only %s", meant, strings.Join(names, ", "))
}

// drainWatch looks at a member that drains.
type drainWatch struct {
	client *adminClient
	member console.Member
	out    io.Writer
	json   bool
	pace   time.Duration
}

// drainProgress is a line of progress.
type drainProgress struct {
	ElapsedMS int64                 `json:"elapsed_ms"`
	State     string                `json:"state"`            // draining, unknown; drained and gone are the end
	Member    *console.MemberStatus `json:"member,omitempty"` // absent if it is gone or unknown
	Error     string                `json:"error,omitempty"`  // why the state is unknown
}

const (
	drainUnderWay = "draining"
	drainUnknown  = "unknown"
	drainDone     = "drained"
	drainGone     = "gone"
)

// run prints progress until the member is gone or holds nothing.
func (d drainWatch) run(ctx context.Context, deadline time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	began := time.Now()            //nolint:forbidigo // the time that a person waits
	tick := time.NewTicker(d.pace) //nolint:forbidigo // the pace of what a person reads
	defer tick.Stop()
	for {
		p, err := d.look(limit)
		if err != nil {
			return err
		}
		if limit.Err() == nil || p.State == drainDone || p.State == drainGone {
			p.ElapsedMS = time.Since(began).Milliseconds() //nolint:forbidigo // as above
			d.print(&p)
		}
		if p.State == drainDone || p.State == drainGone {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			why := "the deadline of " + deadline.String() + " has passed"
			if ctx.Err() != nil {
				why = "interrupted"
			}
			return fmt.Errorf("%s: %s goes on draining, parley cluster status shows how far it is", why, d.member.Name)
		}
	}
}

// look asks how far it is. The node that is asked may be the one that leaves: that
// nobody listens there any more is the end, then. What may pass is no error.
func (d drainWatch) look(ctx context.Context) (drainProgress, error) {
	s, _, err := d.client.status(ctx)
	var refused *refusedError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && d.member.Self:
		return drainProgress{State: drainGone}, nil
	case errors.As(err, &refused) && refused.status/100 == 4:
		return drainProgress{}, err
	case err != nil:
		return drainProgress{State: drainUnknown, Error: err.Error()}, nil //nolint:nilerr // it is shown, and may pass
	}
	i := slices.IndexFunc(s.Members, func(m console.MemberStatus) bool { return m.Name == d.member.Name })
	if i < 0 {
		return drainProgress{State: drainGone}, nil
	}
	m := s.Members[i]
	switch {
	case m.Drained():
		return drainProgress{State: drainDone, Member: &m}, nil
	case !m.Answering:
		return drainProgress{State: drainUnknown, Error: "it does not answer " + s.Node}, nil
	}
	return drainProgress{State: drainUnderWay, Member: &m}, nil
}

func (d drainWatch) print(p *drainProgress) {
	if d.json {
		_ = json.NewEncoder(d.out).Encode(p)
		return
	}
	at := (time.Duration(p.ElapsedMS) * time.Millisecond).Round(time.Second)
	text := p.Error
	switch p.State {
	case drainUnderWay:
		text = left(p.Member)
	case drainDone:
		text = "holds nothing any more: it may be stopped"
	case drainGone:
		text = "is gone"
	}
	_, _ = fmt.Fprintf(d.out, "%4s  %s: %s\n", at, d.member.Name, text)
}

func left(m *console.MemberStatus) string {
	return fmt.Sprintf("%d shards left, %d under way, %d conversations, %d channels", m.HeldShards, m.HandoversUnderWay, m.LiveConversations, m.ActiveChannels)
}

func (c *adminClient) members(ctx context.Context) ([]console.Member, json.RawMessage, error) {
	var a struct {
		Members []console.Member `json:"members"`
	}
	raw, err := c.call(ctx, http.MethodGet, "/api/cluster/members", nil, &a)
	return a.Members, raw, err
}

func (c *adminClient) status(ctx context.Context) (s console.Status, raw json.RawMessage, err error) {
	raw, err = c.call(ctx, http.MethodGet, "/api/cluster/status", nil, &s)
	return s, raw, err
}

// printJSON prints what a node said, all of it.
func printJSON(w io.Writer, raw json.RawMessage) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(raw), "", "  "); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}
