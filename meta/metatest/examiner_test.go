package metatest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley/meta/metatest"
)

// webhook is a receiver on a socket.
type webhook struct {
	receiver

	greet  func(*fasthttp.RequestCtx) // in place of the handshake, if set
	graph  string
	client *fasthttp.Client
	wg     sync.WaitGroup
}

func (h *webhook) serve(ctx *fasthttp.RequestCtx) {
	if ctx.IsGet() {
		query := ctx.QueryArgs()
		switch {
		case h.greet != nil:
			h.greet(ctx)
		case string(query.Peek("hub.verify_token")) == "right":
			ctx.SetBody(query.Peek("hub.challenge"))
		default:
			ctx.SetStatusCode(fasthttp.StatusForbidden)
		}
		return
	}
	status, _, replies := h.take(ctx.PostBody(), string(ctx.Request.Header.Peek(metatest.SignatureHeader)))
	ctx.SetStatusCode(status)
	h.wg.Go(func() {
		for _, r := range replies {
			h.send(r)
		}
	})
}

func (h *webhook) send(r reply) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI(h.graph + r.path + "?access_token=any")
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetBodyString(r.body)
	for range 5 {
		if h.client.DoTimeout(request, response, 2*time.Second) == nil {
			return
		}
	}
}

// on starts the receiver, and an examiner of it.
func (h *webhook) on(t *testing.T, cfg metatest.ExaminerConfig) *metatest.Examiner {
	t.Helper()
	l := listen(t)
	server := &fasthttp.Server{Handler: h.serve, CloseOnShutdown: true}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		h.wg.Wait()
		h.client.CloseIdleConnections()
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	cfg.Target = "http://" + l.Addr().String() + "/hook?tenant=1"
	cfg.Secret, cfg.VerifyToken = receiverSecret, "right"
	e, err := metatest.NewExaminer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	h.graph, h.client = e.GraphURL(), &fasthttp.Client{MaxIdemponentCallAttempts: 1}
	return e
}

func quick() metatest.ExaminerConfig {
	return metatest.ExaminerConfig{Grace: 5 * time.Second, TrialConfig: metatest.TrialConfig{
		Seed: 3, Users: 20, Think: 100 * time.Millisecond, Rate: 100, Duration: time.Second, Duplicates: 0.2,
	}}
}

func TestExaminer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hook *webhook
		want []string
		may  string
	}{
		"good": {hook: &webhook{}},
		// A duplicate that is posted at about the same time may overtake what it
		// repeats, which is then refused before anything of it was acknowledged.
		"two mistakes": {&webhook{receiver: receiver{noVerify: true, refusesAgain: true}}, []string{"forged", "duplicate_refused"}, "not_200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := test.hook.on(t, quick())
			if err := e.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := e.Report()
			names := slices.DeleteFunc(sinsOf(r), func(name string) bool { return name == test.may })
			if !slices.Equal(names, test.want) || r.Messages < 20 || r.Replied != r.Messages {
				t.Errorf("sins %v, want %v: %+v", names, test.want, r)
			}
		})
	}
}

func TestHandshakesThatAreWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		greet func(*fasthttp.RequestCtx)
		says  string
	}{
		"refused":        {func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(404) }, "answered 404"},
		"in JSON":        {func(ctx *fasthttp.RequestCtx) { _, _ = fmt.Fprintf(ctx, "%q", ctx.QueryArgs().Peek("hub.challenge")) }, "aren't the challenge"},
		"of every token": {func(ctx *fasthttp.RequestCtx) { _, _ = ctx.Write(ctx.QueryArgs().Peek("hub.challenge")) }, "wrong verify token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quick()
			cfg.Duration = 100 * time.Millisecond
			e := (&webhook{greet: test.greet}).on(t, cfg)
			if err := e.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := e.Report()
			if len(r.Sins) != 1 || r.Sins[0].Name != "handshake" || !strings.Contains(r.Sins[0].Example, test.says) {
				t.Errorf("sins %+v, want one about %q", r.Sins, test.says)
			}
		})
	}
}

func TestExaminerOfNobody(t *testing.T) {
	t.Parallel()
	l := listen(t)
	cfg := quick()
	cfg.Target, cfg.Wait = "http://"+l.Addr().String(), 200*time.Millisecond
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := metatest.NewExaminer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("error %v, want one that says that nobody answers", err)
	}
	for _, cfg := range []metatest.ExaminerConfig{{Target: "localhost:3000"}, {Target: "http://x", Page: "0.0.0.0:0"}, {Target: "http://x", Page: ":0"}} {
		if e, err := metatest.NewExaminer(cfg); err == nil {
			t.Errorf("%q with the page at %q was taken", cfg.Target, cfg.Page)
			_ = e.Close()
		}
	}
}

// Ctrl-C ends a trial, and what was seen until then is told.
func TestExaminerIsStopped(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Duration = time.Hour
	e := (&webhook{}).on(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	for e.Report().Replied == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if r := e.Report(); !r.Clean || r.Messages == 0 {
		t.Errorf("report %+v", r)
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Page, cfg.Duration, cfg.Token = "127.0.0.1:0", time.Hour, "any"
	e := (&webhook{receiver: receiver{noVerify: true}}).on(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	for len(e.View().Calls) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	client := &fasthttp.Client{}
	defer client.CloseIdleConnections()
	status, page, err := client.Get(nil, e.PageURL())
	if err != nil || status != 200 || !strings.HasPrefix(string(page), "<!doctype html>") {
		t.Errorf("page: %d, %v", status, err)
	}
	for _, outside := range []string{"http:", "https:", "//cdn", "src=", "@import", "innerHTML"} {
		if strings.Contains(string(page), outside) {
			t.Errorf("the page has %q in it", outside)
		}
	}
	status, state, err := client.Get(nil, e.PageURL()+"state.json")
	var v metatest.View
	if err != nil || status != 200 || json.Unmarshal(state, &v) != nil || len(v.Posts) == 0 || !v.Running || len(v.Channels) != 3 {
		t.Errorf("state: %d, %v, %s", status, err, state)
	}
	for _, secret := range []string{receiverSecret, `"right"`, `"Token"`} {
		if strings.Contains(string(state), secret) {
			t.Errorf("the state has %s in it", secret)
		}
	}
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI(e.PageURL() + "state.json")
	request.UseHostHeader = true
	request.Header.SetHost("evil.example")
	if err := client.Do(request, response); err != nil || response.StatusCode() != 403 {
		t.Errorf("a page of another name reads the state: %d, %v", response.StatusCode(), err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
