package metatest_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// A stretch reaches from the last look at which the spool was out of use to the first at
// which it is so again, whoever's it is, and however short it was in use between two.
func TestSpoolWatch(t *testing.T) {
	t.Parallel()
	began := time.Unix(1000, 0)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	type look struct {
		node                      string
		second                    int
		spooled, drained, waiting int
		from                      int // of the stretch; -1: none
	}
	for name, looks := range map[string][]look{
		"never":           {{"a", 1, 0, 0, 0, -1}, {"a", 2, 0, 0, 0, -1}},
		"cut off":         {{"a", 1, 0, 0, 0, -1}, {"a", 2, 3, 0, 3, 1}, {"a", 3, 3, 0, 3, 2}, {"a", 4, 3, 3, 0, 3}, {"a", 5, 3, 3, 0, -1}},
		"for a moment":    {{"a", 1, 0, 0, 0, -1}, {"a", 2, 1, 1, 0, 1}, {"a", 3, 1, 1, 0, -1}},
		"before a look":   {{"a", 2, 1, 1, 0, 0}, {"a", 3, 1, 1, 0, -1}},
		"another's":       {{"a", 1, 0, 0, 0, -1}, {"b", 2, 0, 0, 0, -1}, {"a", 3, 0, 0, 0, -1}, {"b", 4, 1, 1, 0, 2}},
		"not looked at":   {{"a", 1, 0, 0, 0, -1}, {"a", 9, 1, 1, 0, 1}},
		"killed with it":  {{"a", 1, 5, 5, 0, 0}, {"a", 2, 7, 5, 2, 1}, {"a", 6, 0, 2, 0, 2}, {"a", 7, 0, 2, 0, -1}},
		"drained by next": {{"a", 1, 0, 0, 0, -1}, {"a", 4, 0, 2, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			watch := metatest.SpoolWatch{Began: began}
			for _, l := range looks {
				from, until, ok := watch.See(l.node, metatest.SpoolLook{
					Began: at(l.second), Ended: at(l.second).Add(time.Millisecond), Spooled: l.spooled, Drained: l.drained, Waiting: l.waiting,
				})
				if ok != (l.from >= 0) || ok && (!from.Equal(at(l.from)) || !until.Equal(at(l.second).Add(time.Millisecond))) {
					t.Errorf("at %d s: %v from %v until %v, want from %d", l.second, ok, from.Sub(began), until.Sub(began), l.from)
				}
			}
		})
	}
}
