package main_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A behaviour that panics costs its event; its conversation goes on.
func TestPanickingBot(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	n := newHouse(t).start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	n.tell(t, "u1", "1", "say a")
	n.tell(t, "u1", "2", "panic")
	n.tell(t, "u1", "3", "say b")
	n.tell(t, "u2", "4", "say c")
	g.heard(t, "u1", "said b #2")
	g.heard(t, "u2", "said c #1")
	n.drained(t)
	if dead := n.metric(t, "parley_store_dead_letters"); dead != 1 {
		t.Errorf("%d dead letters, want 1", dead)
	}
	n.stop(t)
}

// A behaviour that uses up the stack takes its process down, whatever Go does.
// The one who supervises starts it again; what it died of twice is not run a
// third time.
func TestBotThatKillsItsProcess(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	h := newHouse(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful"))
	n := h.start(t, asFateful, cfg)
	n.tell(t, "u1", "1", "say a")
	g.heard(t, "u1", "said a #1")
	n.tell(t, "u1", "2", "fall")
	deaths := 0
	for alive := false; !alive; {
		switch code := waitFor(t, n, g); code {
		case -1:
			alive = true
		case 0:
			t.Fatal("the node ended by itself, with exit code 0")
		default:
			if deaths++; deaths > 2 {
				t.Fatalf("the process died %d times of one event", deaths)
			}
			n = h.launch(t, asFateful, cfg)
		}
	}
	if deaths != 2 {
		t.Errorf("the process died %d times, want 2", deaths)
	}
	n.tell(t, "u1", "3", "say b")
	n.tell(t, "u2", "4", "say c")
	g.heard(t, "u1", "said b #2")
	g.heard(t, "u2", "said c #1")
	if dead := n.metric(t, "parley_store_dead_letters"); dead != 1 {
		t.Errorf("%d dead letters, want 1", dead)
	}
	n.stop(t)
}

// waitFor waits until the process has died, and returns its exit code, or until
// it has a dead letter: -1.
func waitFor(t *testing.T, n *instance, _ *graph) (code int) {
	t.Helper()
	await(t, "the process died, or gave the event up", func() bool {
		select {
		case <-n.ended:
			code = n.cmd.ProcessState.ExitCode()
			return true
		default:
		}
		code = -1
		if _, admin := n.addresses(); admin == "" {
			return false
		}
		_, text := n.look(t, "/metrics")
		return text != "" && sum(t, text, "parley_store_dead_letters") == 1
	})
	return code
}

// A behaviour that never returns is abandoned; its event is a dead letter.
func TestEndlessBot(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	n := newHouse(t).start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	n.tell(t, "u1", "1", "say a")
	n.tell(t, "u1", "2", "loop")
	n.tell(t, "u1", "3", "say b")
	n.tell(t, "u2", "4", "say c")
	g.heard(t, "u2", "said c #1") // while the loop goes on
	if n.metric(t, "parley_store_dead_letters") != 0 {
		t.Log("the loop was given up before another conversation was served")
	}
	g.heard(t, "u1", "said b #2")
	n.drained(t)
	if dead := n.metric(t, "parley_store_dead_letters"); dead != 1 {
		t.Errorf("%d dead letters, want 1", dead)
	}
	n.stop(t)
}

// A node with too many endless turns replaces itself, and its successor doesn't
// begin them again.
func TestNodeReplacesItself(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	const loops = 8
	n := newHouse(t).start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	for i := range loops {
		n.tell(t, fmt.Sprintf("u%d", i), fmt.Sprint(i), "loop")
	}
	n.serving(t, 2)
	for i := range loops {
		n.tell(t, fmt.Sprintf("u%d", i), fmt.Sprintf("%d-after", i), "say a")
	}
	var got, want []string
	for i := range loops {
		g.heard(t, fmt.Sprintf("u%d", i), "said a #1")
		got = append(got, g.texts(fmt.Sprintf("u%d", i))...)
		want = append(want, "said a #1")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
	n.drained(t)
	if dead := n.metric(t, "parley_store_dead_letters"); dead != loops {
		t.Errorf("%d dead letters, want %d", dead, loops)
	}
	n.stop(t)
}
