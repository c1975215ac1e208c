package dev

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

const (
	mediaPath  = "/dev/media/"
	orderBytes = 64 << 10 // of a request's body
)

// Handler serves the page at /, the orders that it gives and the news that it gets at
// /dev/, and the node's admin API at /api/, with the token that token holds.
func (s *Stage) Handler(token string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.cfg.Page)
	mux.Handle("/api/", s.admin(token))
	mux.HandleFunc("GET /dev/events", s.events(token))
	mux.HandleFunc("GET "+mediaPath+"{name}", serveMedia)
	mux.HandleFunc("GET /dev/transcript", s.transcript(token))
	take(mux, "people", s.addPerson)
	take(mux, "act", s.act)
	take(mux, "look", s.look)
	take(mux, "troubles", s.trouble)
	take(mux, "jump", s.jump)
	take(mux, "node", s.orderNode)
	return guarded(mux)
}

// guarded lets in what comes from this machine's own pages. A page of somebody else's
// that the developer has open can't read an answer, as browsers see to; that it gives no
// order, and isn't taken for ours since its name points here, this sees to.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !ownHost(r.Host) {
			http.Error(w, "this page is at an address of this machine only, such as http://127.0.0.1: a name that points here is not it", http.StatusForbidden)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
			http.Error(w, "orders are taken from this page only", http.StatusForbidden)
			return
		}
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" && r.URL.Path != "/" {
			http.Error(w, "this is for its own page only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether a Host header is localhost or an address, which no name of
// somebody else's is: a name could be made to point here.
func ownHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name == "localhost" || net.ParseIP(name) != nil
}

// take serves an order as POST /dev/{name}: a JSON object in, an object or nothing out.
// Its errors are for the developer, and shown.
func take[T any](mux *http.ServeMux, name string, do func(ctx context.Context, in T) (any, error)) {
	mux.HandleFunc("POST /dev/"+name, func(w http.ResponseWriter, r *http.Request) {
		if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
			http.Error(w, "want application/json", http.StatusUnsupportedMediaType)
			return
		}
		var in T
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, orderBytes))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			http.Error(w, "not what this takes: "+err.Error(), http.StatusBadRequest)
			return
		}
		out, err := do(r.Context(), in)
		switch {
		case errors.Is(err, metatest.ErrNoPhone), errors.Is(err, metatest.ErrNoBubble):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		case out == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(out)
		}
	})
}

type newPerson struct {
	Platform metatest.Platform `json:"platform"`
	Name     string            `json:"name"`
}

type personID struct {
	ID string `json:"id"`
}

func (s *Stage) addPerson(_ context.Context, in newPerson) (out any, err error) {
	err = s.carrier.Use(func(p *metatest.Phones, _ time.Time) error {
		f, err := p.Add(in.Platform, in.Name)
		if err == nil {
			out = personID{f.ID}
		}
		return err
	})
	return out, err
}

type acted struct {
	ID  string       `json:"id"` // of the phone
	Act metatest.Act `json:"act"`
}

func (s *Stage) act(_ context.Context, in acted) (out any, err error) {
	err = s.carrier.Use(func(p *metatest.Phones, now time.Time) error {
		b, err := p.Do(in.ID, in.Act, now)
		if err == nil {
			out = personID{b.ID}
		}
		return err
	})
	return out, err
}

func (s *Stage) look(_ context.Context, in personID) (any, error) {
	return nil, s.carrier.Use(func(p *metatest.Phones, now time.Time) error { return p.Look(in.ID, now) })
}

func (s *Stage) trouble(_ context.Context, in metatest.Troubles) (any, error) {
	return nil, s.carrier.Use(func(p *metatest.Phones, _ time.Time) error {
		p.Trouble(in)
		return nil
	})
}

type jumped struct {
	Seconds float64 `json:"seconds"`
}

func (s *Stage) jump(ctx context.Context, in jumped) (any, error) {
	if !(in.Seconds > 0 && in.Seconds <= jumpMost.Seconds()) { // a NaN, too
		return nil, s.Jump(ctx, 0)
	}
	return nil, s.Jump(ctx, time.Duration(in.Seconds*float64(time.Second)))
}

type nodeOrder struct {
	Do  string `json:"do"` // kill, off, on, bot
	Bot string `json:"bot,omitempty"`
}

func (s *Stage) orderNode(_ context.Context, in nodeOrder) (any, error) {
	switch in.Do {
	case "kill":
		s.runner.Kill()
	case "off", "on":
		s.runner.Switch(in.Do == "on")
	case "bot":
		s.runner.Choose(in.Bot)
	default:
		return nil, errors.New("want kill, off, on or bot")
	}
	return nil, nil
}

// admin passes requests on to the node's admin API, with the token that the page need
// not know.
func (s *Stage) admin(token string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: s.runner.Admin()})
			r.Out.Header.Set("Authorization", "Bearer "+token)
			r.Out.Header.Del("Cookie")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "the node is not up", http.StatusBadGateway)
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}
