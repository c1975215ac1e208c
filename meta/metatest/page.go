package metatest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

//go:embed page.html
var pageHTML []byte

// View is what the page shows, and its JSON.
type View struct {
	Target   string      `json:"target"`
	GraphURL string      `json:"graph_url"`
	Running  bool        `json:"running"`
	Users    int         `json:"users"`
	Channels []Channel   `json:"channels"`
	Report   TrialReport `json:"report"`
	Posts    []PostSeen  `json:"posts"` // the last, the latest last
	Calls    []Call      `json:"calls"`
}

// View is what can be seen now. No secret and no token is in it.
func (e *Examiner) View() View {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := View{
		Target: e.cfg.Target, GraphURL: e.GraphURL(), Users: e.cfg.Users, Channels: e.trial.Channels(),
		Running: e.running, Report: e.trial.Report(time.Now()),
	}
	v.Posts, v.Calls = e.trial.Seen()
	return v
}

// listenOnLoopback opens a socket that only this machine reaches: the page shows what
// the receiver says.
func listenOnLoopback(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	if err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("page %q: want a loopback address, as 127.0.0.1:8766", address)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the page: %w", err)
	}
	return l, nil
}

// pageServer serves the page at / and its JSON at /state.json.
func (e *Examiner) pageServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler: e.servePage, Name: "simulator", GetOnly: true, IdleTimeout: graphIdle, ReadTimeout: graphReadTime,
		CloseOnShutdown: true, Logger: silence{}, NoDefaultServerHeader: true, NoDefaultDate: true,
	}
}

func (e *Examiner) servePage(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'")
	if !fromHere(string(ctx.Host())) { // a name of somebody else's that points here
		ctx.Error("this page is for http://127.0.0.1 and http://localhost only", fasthttp.StatusForbidden)
		return
	}
	switch string(ctx.Path()) {
	case "/":
		ctx.SetContentType("text/html; charset=utf-8")
		ctx.SetBody(pageHTML)
	case "/state.json":
		b, err := json.Marshal(e.View())
		if err != nil {
			ctx.Error("no state", fasthttp.StatusInternalServerError)
			return
		}
		ctx.SetContentType("application/json")
		ctx.SetBody(b)
	default:
		ctx.Error("there are / and /state.json", fasthttp.StatusNotFound)
	}
}

// fromHere reports whether a Host header names this machine by loopback.
func fromHere(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
