package main_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// drainWithin is how long a node may take to stop after SIGTERM.
const drainWithin = 10 * time.Second

// Told to stop under load, a node finishes what it has begun and exits with 0;
// nothing that it acknowledged is lost or takes effect twice.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, enough = 8, 300
	g := newGraph(t)
	h := newHouse(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful"))
	n := h.start(t, asFateful, cfg)
	var acked [writers]int
	var all atomic.Int64
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			user := fmt.Sprintf("u%d", w)
			for k := 1; n.post(t, message(user, fmt.Sprintf("%d-%d", w, k), fmt.Sprintf("say %d", k))).status == http.StatusOK; k++ {
				acked[w] = k
				all.Add(1)
			}
		})
	}
	await(t, "there is load", func() bool { return all.Load() >= enough })
	began := time.Now()
	n.stop(t)
	if took := time.Since(began); took > drainWithin {
		t.Errorf("drained in %s", took)
	}
	writing.Wait()
	n = h.start(t, asFateful, cfg)
	n.drained(t)
	for w := range writers {
		checkReplies(t, g.texts(fmt.Sprintf("u%d", w)), acked[w])
	}
	n.stop(t)
}

// checkReplies wants a reply to each acknowledged message, once and in order.
// One more may have been stored although its answer was lost.
func checkReplies(t *testing.T, got []string, acked int) {
	t.Helper()
	if len(got) < acked || len(got) > acked+1 {
		t.Errorf("%d replies to %d acknowledged messages", len(got), acked)
	}
	for i, text := range got {
		if want := fmt.Sprintf("said %d #%d", i+1, i+1); text != want {
			t.Fatalf("reply %d is %q, want %q", i, text, want)
		}
	}
}

// A node that is told to stop says that it isn't ready before it closes
// anything, while it finishes what has been begun.
func TestReadinessEndsFirst(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	n := newHouse(t).start(t, asItself, configured(g.URL, channel("messenger", pageID, "greeter")))
	if status, _ := n.look(t, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz before: %d", status)
	}
	// A webhook that has half arrived keeps the drain from ending.
	body := message("u1", "1", "hello")
	webhooks, _ := n.addresses()
	conn, err := net.Dial("tcp", strings.TrimPrefix(webhooks, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	half := len(body) / 2
	_, err = fmt.Fprintf(conn, "POST /webhooks/%s HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n%s",
		appName, sign(body), len(body), body[:half])
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the connection is taken", func() bool { return n.metric(t, "parley_ingress_connections") > 0 })
	began := time.Now()
	n.terminate(t)
	await(t, "/readyz is 503", func() bool {
		status, _ := n.look(t, "/readyz")
		if status == 0 {
			t.Fatal("the admin listener closed before /readyz was 503")
		}
		return status == http.StatusServiceUnavailable
	})
	if status, _ := n.look(t, "/livez"); status != http.StatusOK {
		t.Errorf("/livez while draining: %d", status)
	}
	if code := n.left(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > drainWithin {
		t.Errorf("drained in %s", took)
	}
}
