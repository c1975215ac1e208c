package ingress

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// maxCauseBytes is how much of a decoder's complaint is kept.
const maxCauseBytes = 256

// app is an App at work.
type app struct {
	App
	name      string
	metrics   *appMetrics
	verifier  *meta.Verifier
	directory *directory
	learning  sync.Mutex // one Learn at a time
}

func newApp(a App, m *metrics) *app {
	return &app{
		App: a, name: string(a.Name), metrics: m.forApp(string(a.Name)),
		verifier: meta.NewVerifier(a.Secrets), directory: newDirectory(),
	}
}

// challenge is the answer to a handshake, if its token is one of the app's.
func (a *app) challenge(query *fasthttp.Args) (string, bool) {
	return meta.Handshake(string(query.Peek("hub.mode")), string(query.Peek("hub.verify_token")),
		string(query.Peek("hub.challenge")), a.VerifyTokens)
}

// errPanic is a decoder that gave up in a way it must not. One body must not
// take down the process, and then, since Meta sends it again, the next.
var errPanic = errors.New("decoder panicked")

// decode reads a webhook's body. It is an error if the body as a whole can't be
// read.
func (a *app) decode(body []byte, resolve meta.Resolve) (in parley.Arrivals, err error) {
	defer func() {
		if v := recover(); v != nil {
			// The value may quote the body, the stack does not.
			in, err = parley.Arrivals{}, fmt.Errorf("%w: %T\n%s", errPanic, v, debug.Stack())
		}
	}()
	d, err := meta.Decode(body, meta.Options{Resolve: resolve, OwnAppID: a.MetaAppID, Fallback: a.Fallback})
	if err != nil {
		return parley.Arrivals{}, err
	}
	return parley.Arrivals{Events: d.Events, Receipts: d.Receipts, Quarantined: d.Quarantined}, nil
}

// verify checks the signature over the bytes as they came.
func (s *Server) verify(r *request, signature string) (answer, bool) {
	err := r.app.verifier.Verify(r.body, signature)
	if err == nil {
		return answerStored, true
	}
	if left, ok := s.warn.pass("signature " + r.app.name); ok {
		s.log.Warn("webhook with a bad signature", "app", r.app.name, "left_out", left)
	}
	if errors.Is(err, meta.ErrSignatureWrong) {
		return answerForged, false
	}
	return answerUnsigned, false
}

// decode turns the body into what is to be stored. What can't be decoded at all
// is stored whole.
func (s *Server) decode(r *request, now time.Time) {
	in, err := r.app.decode(r.body, r.resolve)
	if err != nil {
		s.undecodable(r, err, now)
		return
	}
	for i := range in.Quarantined {
		q := &in.Quarantined[i]
		q.App, q.Received = r.app.Name, now
		r.causes[causeOf(q)]++
	}
	r.arrivals = in
}

func (s *Server) undecodable(r *request, err error, now time.Time) {
	why, text := causeBody, err.Error()
	if errors.Is(err, errPanic) {
		why, text = causePanic, errPanic.Error()
		s.log.Error("webhook's decoder panicked", "app", r.app.name, "error", err)
	}
	if left, ok := s.warn.pass(why.label()); ok {
		s.log.Warn("webhook can't be decoded; quarantined whole", "app", r.app.name, "sort", why.label(), "left_out", left)
	}
	r.quarantineWhole(why, text[:min(len(text), maxCauseBytes)], now)
}

// causeOf sorts what the decoder put aside.
func causeOf(q *parley.Quarantined) cause {
	if strings.HasPrefix(q.Cause, meta.CauseUnknownChannel) {
		return causeChannel
	}
	return causeShape
}
