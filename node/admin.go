package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/egress"
)

const (
	adminReadTimeout  = 5 * time.Second
	adminDrainTimeout = time.Second
)

// admin is the listener for operators: health, metrics, profiles and the backlog. It
// belongs on the loopback interface or a private network: only what is under /api/
// asks for a password.
type admin struct {
	ready    atomic.Bool
	serving  atomic.Pointer[Node] // nil until its parts are there
	upkeep   *upkeep
	gatherer prometheus.Gatherer
	api      http.Handler // nil without the role console
}

// serves says that the node takes webhooks from now on.
func (a *admin) serves(n *Node) {
	a.serving.Store(n)
	a.ready.Store(true)
}

// Run serves until ctx ends.
func (a *admin) Run(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /backlog", a.showBacklog)
	mux.HandleFunc("GET /sending", a.showSending)
	mux.HandleFunc("POST /checkpoint", a.makeCheckpoint)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.gatherer, promhttp.HandlerOpts{}))
	if a.api != nil {
		mux.Handle("/api/", a.api)
	}
	srv := &http.Server{Handler: mux, ReadTimeout: adminReadTimeout}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("admin listener: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminDrainTimeout)
	defer cancel()
	_ = srv.Shutdown(limit) // what is still open after this is cut off
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return nil
}

// readyz says whether webhooks should be sent here.
func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	switch {
	case !a.ready.Load():
		http.Error(w, "not ready: starting or draining", http.StatusServiceUnavailable)
	case a.serving.Load().stalled():
		http.Error(w, "not ready: the store takes no events", http.StatusServiceUnavailable)
	case a.serving.Load().bettered():
		http.Error(w, "not ready: the database doesn't answer here, and does elsewhere", http.StatusServiceUnavailable)
	default:
		_, _ = fmt.Fprintln(w, "ready")
		if s := a.serving.Load().spool; s != nil && s.State().Open {
			_, _ = fmt.Fprintln(w, "but the database doesn't answer: events go to the spool")
		}
		if trouble := a.upkeep.trouble.Load(); trouble != nil {
			_, _ = fmt.Fprintln(w, "but the upkeep of the store fails:", *trouble)
		}
	}
}

// bettered reports whether this node doesn't reach the store, and another one does:
// that should take the webhooks, since here they go to the spool.
func (n *Node) bettered() bool {
	if n.members == nil {
		return false
	}
	unfit, other := false, false
	for _, m := range n.members.cluster.View().Members() {
		switch {
		case m.Addr == n.cfg.Cluster.address():
			unfit = m.Unfit
		case !m.Unfit && !m.Draining && m.Does(cluster.Ingress):
			other = true
		}
	}
	return unfit && other
}

// stalled reports whether webhooks can't be taken.
func (n *Node) stalled() bool { return n.ingress != nil && n.ingress.Stalled() }

func (a *admin) showBacklog(w http.ResponseWriter, r *http.Request) {
	n := a.serving.Load()
	if n == nil {
		http.Error(w, "backlog: the store is not open yet", http.StatusServiceUnavailable)
		return
	}
	b, err := n.store.Backlog(r.Context())
	if err != nil {
		http.Error(w, "backlog: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(b)
}

// sendingOf is how it stands with a channel's sending, as /sending shows it.
type sendingOf struct {
	Channel  string  `json:"channel"`
	Paused   string  `json:"paused,omitempty"` // throttled, blocked, silent
	Code     int     `json:"code,omitempty"`   // Meta's, of what it pauses for
	Cause    string  `json:"cause,omitempty"`  // Meta's words
	TriesIn  float64 `json:"tries_in_seconds,omitempty"`
	Rate     float64 `json:"rate,omitempty"` // messages a second, as the pace stands; none: any number
	Ceiling  float64 `json:"ceiling,omitempty"`
	InFlight int     `json:"in_flight"`
}

// showSending lists the channels that have something to send on this node.
func (a *admin) showSending(w http.ResponseWriter, _ *http.Request) {
	n := a.serving.Load()
	if n == nil || n.egress == nil {
		http.Error(w, "sending: this node sends nothing", http.StatusServiceUnavailable)
		return
	}
	all := []sendingOf{}
	now := egress.SinceBoot()
	for _, s := range n.egress.Status() {
		all = append(all, sendingOf{
			Channel: s.Channel.String(), Paused: string(s.Pause.Reason), Code: s.Pause.Code, Cause: s.Pause.Cause,
			TriesIn: s.Left(now).Seconds(), Rate: s.Rate, Ceiling: s.Ceiling, InFlight: s.InFlight,
		})
	}
	slices.SortFunc(all, func(a, b sendingOf) int { return strings.Compare(a.Channel, b.Channel) })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all)
}

// checkpointer is a store that can be copied while it is used.
type checkpointer interface {
	Checkpoint(ctx context.Context) (dir string, err error)
}

// makeCheckpoint is what parley store backup asks for. Where the checkpoint goes
// isn't up to who asks: there is no password here.
func (a *admin) makeCheckpoint(w http.ResponseWriter, r *http.Request) {
	n := a.serving.Load()
	if n == nil {
		http.Error(w, "checkpoint: the store is not open yet", http.StatusServiceUnavailable)
		return
	}
	s, ok := n.store.(checkpointer)
	if !ok {
		http.Error(w, "checkpoint: the store is PostgreSQL, which has its own tools", http.StatusConflict)
		return
	}
	made, err := s.Checkpoint(r.Context())
	if err == nil {
		made, err = filepath.Abs(made)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	n.log.InfoContext(r.Context(), "checkpoint made", slog.String("path", made))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(checkpointed{Path: made})
}
