package flow_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// BenchmarkTurn measures the same turn of a bare behaviour and of a flow: a message
// that changes the state and is answered, with words or with a menu. The flow has rules
// that are tried in vain, and remembers what it offered and asked. "over" is what a turn
// of the flow costs more.
func BenchmarkTurn(b *testing.B) {
	titles := []string{"Small", "Large", "Extra large"}
	noted := func(t *flow.Turn[table]) error {
		t.State.Note = t.Said()
		t.Say("What size?")
		return nil
	}
	offered := func(t *flow.Turn[table]) error {
		t.State.Note = t.Said()
		t.Offer("What size?", flow.Titles(titles...)...)
		return nil
	}
	rules := []flow.Rule[table]{flow.On(flow.Text("help"), noted), flow.On(flow.Says("cancel", "stop"), noted), flow.On(flow.Payload("menu"), noted)}
	forms := []flow.Form[table]{{Name: "booking", Fields: []flow.Field[table]{guests(), note(), size()}, Done: booked}}
	const state = `{"guests":4,"name":"Ann"}`
	for _, c := range []struct {
		name   string
		flow   flow.Flow[table]
		bare   []string // what the bare behaviour offers
		before string   // the stored state
	}{
		{"words", flow.Flow[table]{Start: noted}, nil, state},
		{"rules", flow.Flow[table]{Start: noted, Commands: rules}, nil, state},
		{"menu", flow.Flow[table]{Start: offered, Commands: rules}, titles, `{"$flow":{"offered":"Small\nLarge\nExtra large"},"$state":` + state + `}`},
		{"form", flow.Flow[table]{Start: flow.Fill[table]("booking"), Commands: rules, Forms: forms}, titles, `{"$flow":{"form":{"form":"booking","field":"note"}},"$state":` + state + `}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.flow.Name, c.flow.Version = "flow", 1
			made, bare := c.flow.Bot(), bareBot(c.bare)
			of, plain := newTurns(c.before), newTurns(state)
			for b.Loop() {
				of.run(&made)
				plain.run(&bare)
			}
			b.ReportMetric(float64(plain.median().Nanoseconds()), "bare-ns")
			b.ReportMetric(float64((of.median() - plain.median()).Nanoseconds()), "over-ns")
		})
	}
}

// bareBot does the same by hand.
func bareBot(titles []string) parley.Bot {
	return parley.Bot{Name: "bare", Version: 1, Behavior: parley.Stateful(func(t *parley.Turn, s *table) error {
		m, _ := t.Input().(parley.Message)
		s.Note = m.Text
		var replies []parley.QuickReply
		for _, title := range titles {
			replies = append(replies, parley.QuickReply{Title: title, Payload: title})
		}
		t.Say("What size?", replies...)
		return nil
	})}
}

// turns times the same turn again and again.
type turns struct {
	before parley.Snapshot
	rows   []parley.Pending
	took   []time.Duration
}

const batch = 64

func newTurns(state string) *turns {
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: parley.PhoneKey + "49151"}
	return &turns{
		before: parley.Snapshot{Conversation: c, Version: parley.Version{Number: 1, Token: 1}, Bot: "flow", BotVersion: 1, State: []byte(state)},
		rows:   []parley.Pending{{Row: parley.Row{Seq: 1, Token: 1}, Conversation: c, Key: parley.NewEventKey("1"), Input: parley.Message{Text: "A note, please"}}},
	}
}

func (t *turns) run(bot *parley.Bot) {
	start := time.Now()
	for range batch {
		c := parley.Step(bot, t.before, t.rows, parley.Circumstance{})
		if len(c.Outbox) != 1 {
			panic(fmt.Sprint(c.Dead))
		}
	}
	t.took = append(t.took, time.Since(start)/batch)
}

func (t *turns) median() time.Duration {
	slices.Sort(t.took)
	return t.took[len(t.took)/2]
}
