package main_test

import (
	"encoding/json"
	"testing"
)

// demoReport is what demo --json promises to print.
type demoReport struct {
	Offered, Acked, Effects, Lost, Reordered, Unanswered, Pending, Kills *int

	EffectsDoubled           *int `json:"effects_doubled"`
	SendsRepeated            *int `json:"sends_repeated"`
	SendsRepeatedUnexplained *int `json:"sends_repeated_unexplained"`

	LagMS      *float64                         `json:"lag_ms"`
	CPUPerTurn *float64                         `json:"cpu_us_per_turn"`
	Ack        struct{ P50, P99, Max *float64 } `json:"ack_ms"`
}

// The demonstration finds every promise kept, also when the node is killed.
func TestDemo(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args  []string
		kills int
	}{
		"Killed":     {[]string{"--duration", "4s", "--rate", "150", "--kill", "2"}, 2},
		"Duplicates": {[]string{"--duration", "3s", "--rate", "150", "--duplicates", "0.3"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// An operator's own settings are not for the node of the demonstration.
			env := []string{"PARLEY_LISTEN=203.0.113.1:1", "PARLEY_LOG_FORMAT=nonsense"}
			e := runIn(t, env, "", append([]string{"demo", "--json", "--doubtful-wait", "2s", "--dir", t.TempDir()}, row.args...)...)
			e.want(t, 0)
			var r demoReport
			if err := json.Unmarshal([]byte(e.out), &r); err != nil {
				t.Fatalf("the report: %v\n%s", err, e.out)
			}
			zero := map[string]*int{
				"lost": r.Lost, "effects_doubled": r.EffectsDoubled, "reordered": r.Reordered, "unanswered": r.Unanswered,
				"sends_repeated_unexplained": r.SendsRepeatedUnexplained, "pending": r.Pending,
			}
			for name, n := range zero {
				if n == nil || *n != 0 {
					t.Errorf("%s is not 0:\n%s", name, e.out)
				}
			}
			if r.Kills == nil || *r.Kills != row.kills {
				t.Errorf("want %d kills:\n%s", row.kills, e.out)
			}
			if r.Offered == nil || r.Acked == nil || r.Effects == nil || *r.Offered < 300 || *r.Acked != *r.Offered || *r.Effects != *r.Acked {
				t.Errorf("want some hundred messages, all acknowledged, all with effect:\n%s", e.out)
			}
			if r.SendsRepeated == nil || r.LagMS == nil || r.CPUPerTurn == nil || r.Ack.P50 == nil || r.Ack.P99 == nil || r.Ack.Max == nil {
				t.Errorf("a figure is missing:\n%s", e.out)
			}
		})
	}
}
