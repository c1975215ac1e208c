package egress_test

import (
	"context"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// Time passes in the outbox: what counts is when the message would leave.
func TestGateWindow(t *testing.T) {
	t.Parallel()
	heard := time.Unix(1_700_000_000, 0)
	text, template := parley.Send{Text: "hi"}, parley.Send{Template: &parley.Template{Name: "t", Category: parley.Marketing}}
	agent := parley.Send{Text: "hi", HumanAgent: true}
	for name, c := range map[string]struct {
		channel parley.Channel
		send    parley.Send
		heard   parley.Heard
		after   time.Duration
		want    parley.Failure
	}{
		"InTime":              {page, text, parley.Heard{At: heard}, parley.Window - 1, ""},
		"TooLate":             {page, text, parley.Heard{At: heard}, parley.Window, parley.WindowClosed},
		"TooLateOnWhatsApp":   {number, text, parley.Heard{At: heard}, parley.Window, parley.WindowClosed},
		"CameByAnAd":          {number, text, parley.Heard{At: heard, Entry: heard}, parley.EntryWindow - 1, ""},
		"CameByAnAdTooLate":   {number, text, parley.Heard{At: heard, Entry: heard}, parley.EntryWindow, parley.WindowClosed},
		"AgentInTime":         {page, agent, parley.Heard{At: heard}, parley.HumanAgentWindow - 1, ""},
		"AgentTooLate":        {page, agent, parley.Heard{At: heard}, parley.HumanAgentWindow, parley.WindowClosed},
		"TemplatePasses":      {number, template, parley.Heard{At: heard}, 90 * 24 * time.Hour, ""},
		"MarketingWasStopped": {number, template, parley.Heard{At: heard, Stopped: heard}, time.Hour, parley.OptedOut},
		"NobodyKnows":         {number, text, parley.Heard{}, 90 * 24 * time.Hour, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sent := 0
			gate := egress.Gate{
				Provider: provider(func(_ context.Context, m parley.Claimed) egress.Answer { sent++; return accepted(m) }),
				Clock:    func() time.Duration { return 1 }, Now: func() time.Time { return heard.Add(c.after) },
			}
			o := outgoing(talk(c.channel, "a"), 1)
			o.Send, o.Heard = c.send, c.heard
			a := gate.Pass(t.Context(), egress.Handover{Claimed: parley.Claimed{Outgoing: o}, Until: 2})
			if a.Why != c.want || (c.want == "") != (sent == 1) || c.want != "" && a.Kind != egress.Barred {
				t.Errorf("got %+v, %d sent", a, sent)
			}
		})
	}
}

func TestSenderReturns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer egress.Answer
		want   parley.OutcomeKind
	}{
		"WhatIsBarred":             {egress.Answer{Kind: egress.Barred, Why: parley.WindowClosed, Cause: "too long ago"}, parley.Returned},
		"WhatTheProviderSaysSoOf":  {egress.Answer{Kind: egress.Rejected, Why: parley.OptedOut, Code: 131050}, parley.Returned},
		"NothingElseThatIsRefused": {egress.Answer{Kind: egress.Rejected, Code: 100}, parley.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, egress.Policy{})
			r.write(1, "a")
			r.run()
			r.answer(c.answer)
			if o := r.last(); o.Kind != c.want || o.Why != c.answer.Why || o.Code != c.answer.Code {
				t.Errorf("got %+v", o)
			}
		})
	}
	t.Run("AndIsNoWordOfTheProviders", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{MaxInFlight: 2})
		r.write(1, "a", "b")
		r.run()
		r.answer(egress.Answer{Kind: egress.Blocked, Code: 190})
		r.answer(egress.Answer{Kind: egress.Accepted})
		p, _ := r.sender.Paused()
		r.sleep(p.Until - r.now)
		r.run()
		r.wantCalls(1)
		r.answer(egress.Answer{Kind: egress.Barred, Why: parley.WindowClosed})
		if _, still := r.sender.Paused(); !still {
			t.Error("a message that was not even handed over ended the channel's trouble")
		}
	})
}
