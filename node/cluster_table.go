package node

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/console"
)

const (
	tableWidth = 100 // columns of a terminal that tables are made for
	versionMax = 13  // characters of a version in a table: --json has all of it
)

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func printMembers(w io.Writer, members []console.Member) error {
	t := newTable(w)
	_, _ = fmt.Fprintln(t, "name\taddress\troles\tversion\tformat\tstate")
	for i := range members {
		m := &members[i]
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", marked(m), m.Address, roles(m), short(m.Version), m.Format, state(m))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "* answered this")
	return err
}

// marked is the member's name, with a mark if it is the one that was asked.
func marked(m *console.Member) string {
	if m.Self {
		return m.Name + " *"
	}
	return m.Name
}

func state(m *console.Member) string {
	if m.Draining {
		return "draining"
	}
	return "serving"
}

// roles are all, or those that it has.
func roles(m *console.Member) string {
	has := func(r cluster.Role) bool { return slices.Contains(m.Roles, string(r)) }
	if !slices.ContainsFunc(cluster.Roles(), func(r cluster.Role) bool { return !has(r) }) {
		return "all"
	}
	return strings.Join(m.Roles, ",")
}

// short is a version that fits a column: what is made from a commit is long, and
// differs at its end.
func short(version string) string {
	if r := []rune(version); len(r) > versionMax {
		return "…" + string(r[len(r)-versionMax+1:])
	}
	return version
}

func printStatus(w io.Writer, s *console.Status) error {
	t := newTable(w)
	_, _ = fmt.Fprintf(t, "seen by\t%s\n", s.Node)
	_, _ = fmt.Fprintf(t, "members\t%s\n", census(s))
	_, _ = fmt.Fprintf(t, "shards\t%d, %d of them unowned\n", s.Shards.Total, s.Shards.Unowned)
	_, _ = fmt.Fprintf(t, "events\t%s\n", pending(s.Backlog))
	if b := s.Backlog; b != nil {
		_, _ = fmt.Fprintf(t, "outbox\t%d to send, %d timers, %d receipts to fold\n", b.OutboxRows, b.Timers, b.Receipts)
		_, _ = fmt.Fprintf(t, "calls\t%s\n", unanswered(b))
		_, _ = fmt.Fprintf(t, "aside\t%d in quarantine, %d dead letters\n", b.Quarantined, b.DeadLetters)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w)
	if err := printMemberStatus(w, s.Members); err != nil {
		return err
	}
	for _, warning := range s.Warnings {
		if _, err := fmt.Fprintf(w, "\n%s\n%s\n", fold("WARNING: "+warning.Text, ""), fold(warning.Remedy, "  ")); err != nil {
			return err
		}
	}
	return nil
}

// census is how many members there are, of which versions, and whether they agree.
func census(s *console.Status) string {
	versions := map[string]int{}
	for i := range s.Members {
		versions[fmt.Sprintf("%s format %d", short(s.Members[i].Version), s.Members[i].Format)]++
	}
	var of []string
	for v, n := range versions {
		of = append(of, fmt.Sprintf("%d of %s", n, v))
	}
	slices.Sort(of)
	views := "views agree"
	if !s.ViewsAgree {
		views = "views have differed for " + milliseconds(s.ViewsDifferMS)
	}
	return fmt.Sprintf("%d (%s), %s", len(s.Members), strings.Join(of, ", "), views)
}

func pending(b *console.Backlog) string {
	switch {
	case b == nil:
		return "unknown: the store does not answer"
	case b.PendingRows == 0:
		return "none pending"
	}
	return fmt.Sprintf("%d pending, the oldest for %s", b.PendingRows, milliseconds(b.OldestPendingMS))
}

func unanswered(b *console.Backlog) string {
	if b.Calls == 0 {
		return "none under way"
	}
	return fmt.Sprintf("%d under way, the oldest for %s", b.Calls, milliseconds(b.OldestCallMS))
}

func milliseconds(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

func printMemberStatus(w io.Writer, members []console.MemberStatus) error {
	t := newTable(w)
	_, _ = fmt.Fprintln(t, "name\tstate\towns\tholds\tmoving\tlive\trows\tchannels\tclock\tview")
	for i := range members {
		m := &members[i]
		if !m.Answering {
			_, _ = fmt.Fprintf(t, "%s\tsilent\t%d\t-\t-\t-\t-\t-\t-\t-\n", marked(&m.Member), m.OwnedShards)
			continue
		}
		view := "same"
		if !m.ViewAgrees {
			view = "other"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%+dms\t%s\n", marked(&m.Member), state(&m.Member),
			m.OwnedShards, m.HeldShards, m.HandoversUnderWay, m.LiveConversations, m.HeldRows, m.ActiveChannels, m.ClockOffsetMS, view)
	}
	return t.Flush()
}

func printPlace(w io.Writer, p *console.Place) error {
	t := newTable(w)
	_, _ = fmt.Fprintf(t, "conversation\t%s\n", p.Conversation)
	owner := site(p.Owner, cluster.Actors)
	if p.Owner != nil {
		owner += ", " + memory(p.Live)
	}
	_, _ = fmt.Fprintf(t, "owner\t%s\n", owner)
	_, _ = fmt.Fprintf(t, "sender\t%s\n", site(p.Sender, cluster.Egress))
	_, _ = fmt.Fprintf(t, "shard\t%s\n", strconv.Itoa(p.Shard))
	_, _ = fmt.Fprintf(t, "channel's shard\t%s\n", strconv.Itoa(p.ChannelShard))
	return t.Flush()
}

func site(m *console.Member, r cluster.Role) string {
	if m == nil {
		return "nobody: no member has the role " + string(r)
	}
	text := m.Name + " at " + m.Address
	if m.Draining {
		text += ", draining"
	}
	return text
}

func memory(live *bool) string {
	switch {
	case live == nil:
		return "which did not tell whether it is in memory"
	case *live:
		return "in memory"
	}
	return "not in memory"
}

// fold breaks text into lines that fit the width, each begun with the indent.
func fold(text, indent string) string {
	var out strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == indent:
			line += word
		case len(line)+1+len(word) <= tableWidth:
			line += " " + word
		default:
			out.WriteString(line + "\n")
			line = indent + word
		}
	}
	return out.String() + line
}
