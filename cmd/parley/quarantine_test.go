package main_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What comes for a channel that isn't configured waits in quarantine, also
// through a kill. Once the channel is known it takes effect in order, before
// what comes then.
func TestQuarantineIsReplayed(t *testing.T) {
	t.Parallel()
	const before = 40
	g := newGraph(t)
	h := newHouse(t)
	n := h.start(t, asFateful, configured(g.URL, channel("messenger", "another page", "fateful")))
	for i := range before {
		n.tell(t, "u1", fmt.Sprint(i), fmt.Sprintf("say %d", i))
	}
	if got := n.metric(t, "parley_ingress_quarantined_total", `cause="unknown_channel"`); got != before {
		t.Errorf("%d quarantined, want %d", got, before)
	}
	n.kill()
	n = h.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	n.tell(t, "u1", "live", "say live")
	n.tell(t, "u1", "0", "say 0") // Meta again, in doubt about the first
	g.heard(t, "u1", fmt.Sprintf("said live #%d", before+1))
	n.drained(t)
	var want []string
	for i := range before {
		want = append(want, fmt.Sprintf("said %d #%d", i, i+1))
	}
	want = append(want, fmt.Sprintf("said live #%d", before+1))
	if diff := cmp.Diff(want, g.texts("u1")); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
	if left := n.metric(t, "parley_store_quarantined"); left != 0 {
		t.Errorf("%d left in quarantine", left)
	}
	if got := n.metric(t, "parley_ingress_released_total"); got != before {
		t.Errorf("%d released, want %d", got, before)
	}
	n.stop(t)
}
