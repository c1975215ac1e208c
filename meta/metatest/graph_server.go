package metatest

import (
	"net"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Limits of the Graph API's server.
const (
	graphBodyMax  = 1 << 20
	graphIdle     = 90 * time.Second
	graphReadTime = 30 * time.Second
)

// graphServer serves the Graph API. What goes wrong on its sockets is the
// simulator's doing more often than not, and judged elsewhere: it logs nothing.
func graphServer(handle fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler: handle, Name: "simulated-graph",
		MaxRequestBodySize: graphBodyMax, IdleTimeout: graphIdle, ReadTimeout: graphReadTime,
		DisablePreParseMultipartForm: true, CloseOnShutdown: true,
		Logger: silence{}, NoDefaultServerHeader: true, NoDefaultDate: true,
	}
}

type silence struct{}

// Printf drops what fasthttp has to say.
func (silence) Printf(string, ...any) {}

// serveGraph reads and checks a send outside of the lock, and has it judged
// inside.
func (s *Simulator) serveGraph(ctx *fasthttp.RequestCtx) {
	req := graphRequest(ctx)
	read := s.world.read(req)
	s.mu.Lock()
	answer := s.world.answer(&read, req.Opened, time.Now())
	s.mu.Unlock()
	writeAnswer(ctx, answer)
}

// writeAnswer does what an answer says.
func writeAnswer(ctx *fasthttp.RequestCtx, answer GraphAnswer) {
	if answer.Delay > 0 {
		time.Sleep(answer.Delay)
	}
	if answer.Withhold {
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(net.Conn) {}) // fasthttp closes the connection after it
		return
	}
	ctx.SetStatusCode(answer.Status)
	ctx.SetContentType("application/json; charset=UTF-8")
	ctx.SetBody(answer.Body)
}

// graphRequest is what the World wants to know of a request. The strings are
// copies; the body is not, and is not kept.
func graphRequest(ctx *fasthttp.RequestCtx) GraphRequest {
	token, bearer := strings.CutPrefix(string(ctx.Request.Header.Peek("Authorization")), "Bearer ")
	if !bearer {
		token = string(ctx.QueryArgs().Peek("access_token"))
	}
	return GraphRequest{
		Method: string(ctx.Method()), Path: string(ctx.Path()), Token: token,
		Proof: string(ctx.QueryArgs().Peek("appsecret_proof")),
		Body:  ctx.PostBody(), Opened: ctx.ConnTime(),
	}
}
