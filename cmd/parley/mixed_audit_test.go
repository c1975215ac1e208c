package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

const (
	auditsEvery  = 500 * time.Millisecond
	auditsWithin = 5 * time.Second
)

// auditor asks the nodes' own audit all along, and by the command at the end.
type auditor struct {
	m      *mix
	token  string
	client http.Client

	mu                           sync.Mutex
	asked, told, addedUp, silent int
	spooled                      int64 // most at a time
	last                         parley.Account
	broken                       []string
}

func newAuditor(m *mix) *auditor {
	m.Helper()
	token, err := os.ReadFile(filepath.Join(m.houses[0].dir, adminSecret))
	if err != nil {
		m.Fatal(err)
	}
	return &auditor{m: m, token: string(token), client: http.Client{Timeout: auditsWithin}}
}

// watch asks the nodes in turn, until ctx ends.
func (w *auditor) watch(ctx context.Context) {
	tick := time.NewTicker(auditsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		n := w.m.node(w.asked % crewSize)
		w.asked++
		w.mu.Unlock()
		if a, ok := w.ask(ctx, n); ok {
			w.note(&a)
		}
	}
}

// ask is what a node says; false: it says nothing, being dead, or without a store.
func (w *auditor) ask(ctx context.Context, n *instance) (a parley.Account, ok bool) {
	_, admin := n.addresses()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/api/audit", http.NoBody)
	if err != nil {
		return a, false
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	resp, err := w.client.Do(req)
	if err != nil {
		return a, false
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return a, false
	}
	return a, json.NewDecoder(resp.Body).Decode(&a) == nil
}

func (w *auditor) note(a *parley.Account) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told++
	w.last, w.spooled = *a, max(w.spooled, a.Whole.Spooled)
	if len(a.Silent) > 0 {
		w.silent++
	}
	if a.AddsUp && equal(a.Whole) {
		w.addedUp++
		return
	}
	w.broken = append(w.broken, fmt.Sprintf("%s: %+v, opened %v %s, lost %+v", w.m.stamp(time.Now()), a.Whole, a.Opened, a.Why, a.Lost))
}

// equal says that what was acknowledged is all somewhere.
func equal(t parley.AuditTerms) bool {
	return t.Acknowledged == t.Effected+t.Duplicate+t.Pending+t.Spooled+t.Quarantined+t.Dead
}

// judge asks once more by parley audit, and holds it to what Meta knows.
func (w *auditor) judge(acked int) {
	m := w.m
	m.Helper()
	_, admin := m.nodes[0].addresses()
	e := run(m.T, "", "audit", "--json", "--admin", admin, "--token", "file:"+filepath.Join(m.houses[0].dir, adminSecret))
	if e.code != 0 {
		m.Errorf("parley audit ended with %d:\n%s\n%s", e.code, e.out, e.errors)
	}
	var last parley.Account
	if err := json.NewDecoder(strings.NewReader(e.out)).Decode(&last); err != nil {
		m.Fatalf("parley audit: %v: %s", err, e.out)
	}
	t := last.Whole
	m.Logf("parley audit, at the end: %d acknowledged = %d effected + %d duplicate + %d pending + %d spooled + %d quarantined + %d dead",
		t.Acknowledged, t.Effected, t.Duplicate, t.Pending, t.Spooled, t.Quarantined, t.Dead)
	if !last.AddsUp || !equal(t) || t.Spooled+t.Quarantined+t.Dead+int64(len(last.Silent)) != 0 {
		m.Errorf("the audit at the end: %+v", last)
	}
	if want := int64(acked + m.idle.n*m.idle.said); t.Acknowledged < want {
		m.Errorf("the audit counts %d acknowledged, Meta and the idle ones %d messages alone", t.Acknowledged, want)
	}
	if len(w.broken) > 0 || w.told < w.asked/4 || w.told == 0 {
		m.Errorf("the audit was told %d of %d times, and didn't add up at %d moments: %s", w.told, w.asked, len(w.broken), strings.Join(w.broken, "\n"))
	}
}

func (w *auditor) summary() string {
	return fmt.Sprintf("audit: added up at %d of %d moments (%d times nobody told; a member was silent at %d); %d spooled at most", w.addedUp, w.told, w.asked-w.told, w.silent, w.spooled)
}
