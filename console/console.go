// Package console is the admin API: what an operator may see of a cluster and do
// with it, as JSON over HTTP, with a description in OpenAPI. What it shows comes
// from an [Operator], which the node implements.
//
// Whoever has the one token may do everything. Without a token nothing is open,
// not on the loopback interface either: other users of a machine reach that too.
// No answer makes a browser load anything from elsewhere.
package console

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// TokenMin is how long a token must be at least, in bytes: shorter ones can be
	// guessed.
	TokenMin = 16

	defaultTimeout = 10 * time.Second
	bodyMax        = 4 << 10 // bytes; no request needs more than some names
)

// Config is what an API is made from.
type Config struct {
	// Token is what requests must bring. If it is empty, all are refused, with a word
	// on what to configure.
	Token         string
	Operator      Operator
	Letters       Letters
	Conversations Conversations
	Audit         Audit // nil: there is none
	// Timeout is how long a request may take. Default 10 s.
	Timeout    time.Duration
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
}

// API is the admin API. It starts nothing, and may serve any number of requests.
type API struct {
	guard   guard
	mux     *http.ServeMux
	spec    map[string][]byte // what describes the API, by path
	timeout time.Duration
	log     *slog.Logger
	metrics *metrics
}

// New makes an API.
func New(cfg Config) (*API, error) {
	if cfg.Operator == nil || cfg.Letters == nil || cfg.Conversations == nil {
		return nil, errors.New("console: an Operator, Letters and Conversations are needed")
	}
	token := strings.TrimSpace(cfg.Token) // as what requests bring is trimmed
	if n := len(token); n > 0 && n < TokenMin {
		return nil, fmt.Errorf("console: the token has %d bytes: want %d at least", n, TokenMin)
	}
	a := &API{
		guard:   guard{set: token != "", digest: sha256.Sum256([]byte(token))},
		mux:     http.NewServeMux(),
		timeout: cmp.Or(cfg.Timeout, defaultTimeout),
		log:     cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		metrics: newMetrics(cfg.Registerer),
	}
	described := humago.New(a.mux, description())
	desk{operator: cfg.Operator, log: a.log}.register(described)
	letterBox{letters: cfg.Letters, log: a.log}.register(described)
	archive{cfg.Conversations}.register(described)
	auditRoom{audit: cfg.Audit, log: a.log}.register(described)
	spec, err := specification(described.OpenAPI())
	a.spec = spec
	return a, err
}

// description is what huma is to know. What it would serve by itself is switched
// off: its pages load scripts from elsewhere, its links speak of schemas that are
// in the one document anyway.
func description() huma.Config {
	cfg := huma.DefaultConfig("Parley admin API", "1")
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil
	cfg.RejectUnknownQueryParameters = true
	cfg.Info.Description = "What an operator may see of a cluster and do with it. Any node that serves it answers for all."
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		schemeName: {Type: "http", Scheme: "bearer", Description: "The token that admin_token of the node's configuration names."},
	}
	cfg.Security = []map[string][]string{{schemeName: {}}}
	return cfg
}

// The paths at which the API is described, for everyone: it is the same for every
// node of a version.
const (
	specJSON = "/api/openapi.json"
	specYAML = "/api/openapi.yaml"
)

// specification is what is served at those paths. It is made once: huma would make
// it at the first request, and again if two come at once.
func specification(o *huma.OpenAPI) (map[string][]byte, error) {
	// The model of errors is huma's. Its examples are addresses that are nobody's.
	for _, p := range o.Components.Schemas.Map()["ErrorModel"].Properties {
		if p.Format == "uri" {
			p.Examples = nil
		}
	}
	inJSON, err := o.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	inYAML, err := o.YAML()
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	return map[string][]byte{specJSON: inJSON, specYAML: inYAML}, nil
}

// Handler serves the API. It is to be mounted at /api/, with the path as it came.
func (a *API) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'")
		if text, ok := a.spec[r.URL.Path]; ok && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			h.Set("Content-Type", map[string]string{specJSON: "application/openapi+json", specYAML: "application/openapi+yaml"}[r.URL.Path])
			_, _ = w.Write(text)
			return
		}
		if cause := a.guard.refuses(r); cause != "" {
			a.metrics.refused(cause)
			h.Set("WWW-Authenticate", `Bearer realm="parley"`)
			writeProblem(w, http.StatusUnauthorized, refusals()[cause])
			return
		}
		a.serve(w, r)
	})
}

// serve serves a request of somebody who may make it.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), a.timeout)
	defer cancel()
	defer func() {
		// huma panics if it can't write. The caller is gone, or there is a bug, which
		// net/http would report to a logger that isn't ours.
		if cause := recover(); cause != nil {
			a.log.ErrorContext(ctx, "admin request broken off", slog.String("path", r.URL.Path), slog.Any("cause", cause))
			panic(http.ErrAbortHandler)
		}
	}()
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
	handler, pattern := a.mux.Handler(r)
	if pattern == "" {
		refuse(w, r, handler)
		return
	}
	a.mux.ServeHTTP(w, r) // and not the handler: it would know no path's values
}

// refuse answers a request for something that isn't there with what the mux says
// to it, 404 or 405, in the form of all other errors.
func refuse(w http.ResponseWriter, r *http.Request, by http.Handler) {
	said := verdict{header: w.Header()}
	by.ServeHTTP(&said, r)
	detail := "There is nothing at this path. " + specJSON + " says what there is."
	if said.status == http.StatusMethodNotAllowed {
		detail = "This path takes " + w.Header().Get("Allow") + "."
	}
	writeProblem(w, said.status, detail)
}

// verdict takes an answer's status and forgets its text.
type verdict struct {
	header http.Header
	status int
}

func (v *verdict) Header() http.Header         { return v.header }
func (v *verdict) WriteHeader(status int)      { v.status = status }
func (v *verdict) Write(b []byte) (int, error) { return len(b), nil }
