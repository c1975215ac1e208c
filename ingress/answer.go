package ingress

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// answer is how a request ended. Each has one status and one constant text:
// nothing of a request is ever repeated, but for the handshake's challenge.
type answer uint8

const (
	answerStored      answer = iota // all that the webhook held is durable
	answerEmpty                     // signed, and it held no update
	answerChallenge                 // handshake accepted
	answerWrongToken                // handshake refused
	answerUnsigned                  // signature missing or malformed
	answerForged                    // signature of no secret of the app
	answerNotFound                  // no such app or path
	answerMethod                    // neither GET nor POST
	answerTooLarge                  // body above MaxBodyBytes
	answerHeaderLarge               // header above MaxHeaderBytes
	answerSlow                      // not whole within ReadTimeout
	answerMalformed                 // not HTTP, or broken off
	answerBusy                      // MaxHeldBytes or MaxQueue reached, or draining
	answerFull                      // the store has no room
	answerUnavailable               // the store refused for another reason
	answerLate                      // the store did not answer within AppendTimeout
	answersCount                    // not an answer
)

type answerForm struct {
	label  string
	status int
	text   string
}

// form is the one table of what is answered (design: "where durable is").
func (a answer) form() answerForm {
	switch a {
	case answerStored:
		return answerForm{"stored", fasthttp.StatusOK, ""}
	case answerEmpty:
		return answerForm{"empty", fasthttp.StatusOK, ""}
	case answerChallenge:
		return answerForm{"challenge", fasthttp.StatusOK, ""}
	case answerWrongToken:
		return answerForm{"wrong_token", fasthttp.StatusForbidden, "verification refused\n"}
	case answerUnsigned:
		return answerForm{"unsigned", fasthttp.StatusUnauthorized, "signature missing or malformed\n"}
	case answerForged:
		return answerForm{"forged", fasthttp.StatusUnauthorized, "signature does not match\n"}
	case answerNotFound:
		return answerForm{"not_found", fasthttp.StatusNotFound, "not found\n"}
	case answerMethod:
		return answerForm{"method", fasthttp.StatusMethodNotAllowed, "method not allowed\n"}
	case answerTooLarge:
		return answerForm{"too_large", fasthttp.StatusRequestEntityTooLarge, "body too large\n"}
	case answerHeaderLarge:
		return answerForm{"header_large", fasthttp.StatusRequestHeaderFieldsTooLarge, "header too large\n"}
	case answerSlow:
		return answerForm{"slow", fasthttp.StatusRequestTimeout, "request not received in time\n"}
	case answerBusy:
		return answerForm{"busy", fasthttp.StatusServiceUnavailable, "busy\n"}
	case answerFull:
		return answerForm{"full", fasthttp.StatusServiceUnavailable, "no room\n"}
	case answerUnavailable:
		return answerForm{"unavailable", fasthttp.StatusServiceUnavailable, "unavailable\n"}
	case answerLate:
		return answerForm{"late", fasthttp.StatusServiceUnavailable, "unavailable\n"}
	case answerMalformed, answersCount:
	}
	return answerForm{"malformed", fasthttp.StatusBadRequest, "malformed request\n"}
}

// write sets the response. The challenge's body is the handler's.
func (a answer) write(ctx *fasthttp.RequestCtx, retryAfter string) {
	f := a.form()
	ctx.Response.SetStatusCode(f.status)
	if f.text != "" {
		ctx.Response.SetBodyString(f.text)
	}
	switch f.status {
	case fasthttp.StatusServiceUnavailable:
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, retryAfter)
	case fasthttp.StatusMethodNotAllowed:
		ctx.Response.Header.Set(fasthttp.HeaderAllow, "GET, POST")
	}
}

func retryAfterSeconds(d time.Duration) string {
	return strconv.FormatInt(int64(max(d.Round(time.Second), time.Second)/time.Second), 10)
}
