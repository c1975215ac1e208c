package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// From here on something is worth a word. What passes by itself within a usual
// hand-over, start or failover is not.
const (
	viewsDifferMax = 5 * time.Second
	clockOffMax    = time.Second
	pendingMax     = 30 * time.Second
)

// Warnings are what follows from a status, the most urgent first. It is a pure
// function of it: all that must last before it counts is told by the operator.
func Warnings(s *Status) []Warning {
	var out []Warning
	warn := func(kind, text, remedy string) { out = append(out, Warning{kind, text, remedy}) }
	if s.Shards.Unowned > 0 {
		warn("unowned_shards", fmt.Sprintf("%d of %d shards belong to nobody: events of their conversations wait in the store.", s.Shards.Unowned, s.Shards.Total),
			"Start a node with the role actors.")
	}
	if s.Backlog == nil {
		warn("store_silent", "The store does not answer.",
			"Look at the database. Webhooks go to the nodes' spools meanwhile, as long as there is room.")
	}
	if s.Alone {
		warn("alone", s.Node+" sees no other member.",
			"Look whether the others run, and whether their gossip address is reached from here by TCP and by UDP, with the same keys.")
	}
	out = append(out, silentWarnings(s)...)
	if differ := time.Duration(s.ViewsDifferMS) * time.Millisecond; !s.ViewsAgree && differ >= viewsDifferMax {
		other := names(s, func(m MemberStatus) bool { return m.Answering && !m.ViewAgrees })
		warn("views_differ", fmt.Sprintf("Views have differed for %s. Not the same members as %s are seen by %s.", differ.Round(time.Second), s.Node, other),
			"The network is split, or lets through in one direction only. Nothing is lost or doubled, but hand-overs and wake-ups are slow until it is whole.")
	}
	if off := names(s, func(m MemberStatus) bool { return m.Answering && clockOff(m) }); off != "" {
		warn("clocks_disagree", fmt.Sprintf("The clocks of %s and of %s are more than %s apart.", off, s.Node, clockOffMax),
			"Let all machines follow one source of time (chrony, ntpd). Log lines and ages mislead until they do; order and timers go by the database's clock.")
	}
	if b := s.Backlog; b != nil && b.OldestPendingMS >= pendingMax.Milliseconds() {
		warn("backlog_old", fmt.Sprintf("The oldest of %d pending events has waited for %s.", b.PendingRows, time.Duration(b.OldestPendingMS)*time.Millisecond),
			"If it grows, nodes with the role actors are too few or stuck: look at their logs and at parley_actors_commit_failures_total.")
	}
	return append(append(out, botsDiffer(s)...), draining(s)...)
}

// botsDiffer warns of bots that members read in several versions. It is so during
// every upgrade of a bot, and it should not stay so.
func botsDiffer(s *Status) (out []Warning) {
	by := map[string]map[int][]string{} // bot, version, members
	for i := range s.Members {
		for _, b := range s.Members[i].Bots {
			if by[b.Name] == nil {
				by[b.Name] = map[int][]string{}
			}
			by[b.Name][b.Version] = append(by[b.Name][b.Version], s.Members[i].Name)
		}
	}
	for _, bot := range slices.Sorted(maps.Keys(by)) {
		if len(by[bot]) < 2 { //nolint:mnd // they agree
			continue
		}
		var parts []string
		for _, v := range slices.Sorted(maps.Keys(by[bot])) {
			parts = append(parts, fmt.Sprintf("version %d is read by %s", v, strings.Join(by[bot][v], ", ")))
		}
		out = append(out, Warning{
			"bots_differ", "Members have several versions of bot " + bot + ": " + strings.Join(parts, "; ") + ".",
			"Finish the upgrade, or take it back. Until then the older version goes on, or, where the newer one doesn't keep it, conversations wait (parley_actors_turns_put_off_total).",
		})
	}
	return out
}

func silentWarnings(s *Status) []Warning {
	silent := names(s, func(m MemberStatus) bool { return !m.Answering })
	if silent == "" {
		return nil
	}
	return []Warning{{
		"silent", "No answer from " + silent + ".",
		"If the process is gone, others take over within seconds. If it runs, look whether its address for messages is reached from " + s.Node + ", and at its certificate.",
	}}
}

// draining warns if there is nobody left that could take over.
func draining(s *Status) []Warning {
	busy := names(s, func(m MemberStatus) bool { return m.Draining })
	if busy == "" || slices.ContainsFunc(s.Members, func(m MemberStatus) bool { return !m.Draining }) {
		return nil
	}
	return []Warning{{"all_draining", "All members drain: they keep what they own, since nobody else could take it.", "Start a node."}}
}

func clockOff(m MemberStatus) bool {
	off := time.Duration(m.ClockOffsetMS) * time.Millisecond
	return off > clockOffMax || off < -clockOffMax
}

// names are those of the members for which it holds, in one string.
func names(s *Status, holds func(MemberStatus) bool) string {
	var out []string
	for _, m := range s.Members {
		if holds(m) {
			out = append(out, m.Name)
		}
	}
	return strings.Join(out, ", ")
}
