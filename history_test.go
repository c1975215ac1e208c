package parley_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	s := step(said(1, "set old 1m", "set old 1m")...)
	rows := said(3, "say a;set n 1s;cancel x;become loud", "fail", "end")
	rows = append(rows, fire(6, parley.Timer{Name: "old", Generation: 1}), pend(7, "mid.3", parley.Message{Text: "secret"}))
	c := parley.Step(scripted(), s.Next, rows, drawn(2))
	want := `{"version":2,"at":"2026-03-01T12:00:06Z","bot":"scripted","turn":[` +
		`{"seq":3,"in":{"kind":"message","input":{"text":"say a;set n 1s;cancel x;become loud"}},"out":[` +
		`{"effect":"send","value":{"text":"a"}},` +
		`{"effect":"set_timer","value":{"name":"n","in":1000000000}},` +
		`{"effect":"cancel_timer","value":{"name":"x"}},` +
		`{"effect":"become","value":{"behavior":"loud"}}]},` +
		`{"seq":4,"in":{"kind":"message","input":{"text":"fail"}},"not":"error: told to"},` +
		`{"seq":5,"in":{"kind":"message","input":{"text":"end"}},"out":[{"effect":"end","value":{}}]},` +
		`{"seq":6,"in":{"kind":"timer_fired","input":{"name":"old","generation":1,"due":"0001-01-01T00:00:00Z"}},"not":"stale"},` +
		`{"seq":7,"not":"repeated"}]}`
	diff(t, "history", want, string(c.History))
}

// Whatever a contact writes and a bot says, the record is JSON.
func TestHistoryIsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		anything := rapid.Custom(func(t *rapid.T) string { // not always UTF-8
			return string(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "bytes"))
		})
		in, out, cause := anything.Draw(t, "in"), anything.Draw(t, "out"), anything.Draw(t, "cause")
		fails := rapid.Bool().Draw(t, "fails")
		bot := &parley.Bot{Name: anything.Draw(t, "bot"), Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say(out, parley.QuickReply{Title: out, Payload: cause})
			t.SetTimer(cause, time.Second)
			if fails {
				return errors.New(cause)
			}
			return nil
		})}
		c := parley.Step(bot, fresh(), said(1, in, in), drawn(1))
		var record struct {
			Turn []struct {
				In  struct{ Input parley.Message }
				Out []json.RawMessage
				Not *string
			}
		}
		if err := json.Unmarshal(c.History, &record); err != nil {
			t.Fatalf("%s: %v", c.History, err)
		}
		if len(record.Turn) != 2 || (record.Turn[0].Not != nil) != fails || (len(record.Turn[0].Out) == 2) == fails {
			t.Fatalf("record %s", c.History)
		}
	})
}
