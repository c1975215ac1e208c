package console_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/console"
)

// well is a status that nobody need look at.
func well() *console.Status {
	s := &console.Status{Node: "node1-17", ViewsAgree: true, Backlog: &console.Backlog{OldestPendingMS: 900, PendingRows: 40}}
	s.Shards.Total = 4096
	for _, name := range []string{"node1-17", "node2-23"} {
		s.Members = append(s.Members, console.MemberStatus{Member: console.Member{Name: name}, Answering: true, ViewAgrees: true})
	}
	return s
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*console.Status)
		want   []string // kinds
	}{
		"Well":    {func(*console.Status) {}, nil},
		"Unowned": {func(s *console.Status) { s.Shards.Unowned = 4096 }, []string{"unowned_shards"}},
		"Store":   {func(s *console.Status) { s.Backlog = nil }, []string{"store_silent"}},
		"Alone":   {func(s *console.Status) { s.Alone, s.Members = true, s.Members[:1] }, []string{"alone"}},
		"Silent":  {func(s *console.Status) { s.Members[1].Answering = false }, []string{"silent"}},
		"ViewsJustNow": {func(s *console.Status) {
			s.ViewsAgree, s.ViewsDifferMS, s.Members[1].ViewAgrees = false, 4999, false
		}, nil},
		"Views": {func(s *console.Status) {
			s.ViewsAgree, s.ViewsDifferMS, s.Members[1].ViewAgrees = false, 5000, false
		}, []string{"views_differ"}},
		"ClockAhead":  {func(s *console.Status) { s.Members[1].ClockOffsetMS = 1001 }, []string{"clocks_disagree"}},
		"ClockBehind": {func(s *console.Status) { s.Members[1].ClockOffsetMS = -1001 }, []string{"clocks_disagree"}},
		"ClockNear":   {func(s *console.Status) { s.Members[1].ClockOffsetMS = -1000 }, nil},
		"Backlog":     {func(s *console.Status) { s.Backlog.OldestPendingMS = 30000 }, []string{"backlog_old"}},
		"OneDrains":   {func(s *console.Status) { s.Members[0].Draining = true }, nil},
		"AllDrain":    {func(s *console.Status) { s.Members[0].Draining, s.Members[1].Draining = true, true }, []string{"all_draining"}},
		"Worst": {func(s *console.Status) {
			s.Members[1].Answering, s.Backlog, s.Shards.Unowned = false, nil, 1
		}, []string{"unowned_shards", "store_silent", "silent"}},
		"BotsAgree": {func(s *console.Status) {
			s.Members[0].Bots = []console.BotVersion{{Name: "pizza", Version: 2}}
			s.Members[1].Bots = []console.BotVersion{{Name: "pizza", Version: 2}, {Name: "tally", Version: 1}}
		}, nil},
		"BotsDiffer": {func(s *console.Status) {
			s.Members[0].Bots = []console.BotVersion{{Name: "pizza", Version: 2}, {Name: "tally", Version: 1}}
			s.Members[1].Bots = []console.BotVersion{{Name: "pizza", Version: 1}, {Name: "tally", Version: 1}}
		}, []string{"bots_differ"}},
		"SilentTellsNothing": {func(s *console.Status) {
			s.Members[1] = console.MemberStatus{Member: s.Members[1].Member, ClockOffsetMS: 5000}
		}, []string{"silent"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := well()
			row.change(s)
			var got []string
			for _, w := range console.Warnings(s) {
				if got = append(got, w.Kind); w.Text == "" || w.Remedy == "" {
					t.Errorf("%+v says too little", w)
				}
			}
			if d := cmp.Diff(row.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDrained(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		m    console.MemberStatus
		want bool
	}{
		"Empty":         {console.MemberStatus{Member: console.Member{Draining: true}, Answering: true, OwnedShards: 4, HeldRows: 1}, true},
		"NotDraining":   {console.MemberStatus{Answering: true}, false},
		"Silent":        {console.MemberStatus{Member: console.Member{Draining: true}}, false},
		"Shards":        {console.MemberStatus{Member: console.Member{Draining: true}, Answering: true, HeldShards: 1}, false},
		"Handovers":     {console.MemberStatus{Member: console.Member{Draining: true}, Answering: true, HandoversUnderWay: 1}, false},
		"Conversations": {console.MemberStatus{Member: console.Member{Draining: true}, Answering: true, LiveConversations: 1}, false},
		"Channels":      {console.MemberStatus{Member: console.Member{Draining: true}, Answering: true, ActiveChannels: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := row.m.Drained(); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}
