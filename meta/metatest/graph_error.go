package metatest

import "strconv"

// graphError is an error in Meta's form. The messages are Meta's wording where a
// source gave it; a sender must not depend on them.
type graphError struct {
	status    int // HTTP
	code      int
	subcode   int
	transient bool
	kind      string // "type" on the wire
	message   string
	details   string // WhatsApp: error_data.details
}

func (e *graphError) answer(trace uint64) GraphAnswer {
	b := append(make([]byte, 0, 256), `{"error":{"message":`...)
	b = appendString(b, e.message)
	b = appendField(b, `,"type":`, e.kind)
	b = append(b, `,"code":`...)
	b = strconv.AppendInt(b, int64(e.code), 10)
	if e.subcode != 0 {
		b = append(b, `,"error_subcode":`...)
		b = strconv.AppendInt(b, int64(e.subcode), 10)
	}
	if e.details != "" {
		b = appendField(b, `,"error_data":{"messaging_product":"whatsapp","details":`, e.details)
		b = append(b, '}')
	}
	if e.transient {
		b = append(b, `,"is_transient":true`...)
	}
	b = append(b, `,"fbtrace_id":"A`...)
	b = strconv.AppendUint(b, mix(trace, 7), 36)
	return GraphAnswer{Status: e.status, Body: append(b, `"}}`...)}
}

const oauth = "OAuthException"

func badParameter(what string) *graphError {
	return &graphError{status: 400, code: 100, kind: oauth, message: "(#100) " + what}
}

// elsewhere is what an app is told that writes to a thread which another one has.
func elsewhere() *graphError {
	return &graphError{status: 400, code: 2018300, kind: oauth, message: "(#2018300) Another app is controlling this thread now."}
}

// badValue is a parameter of WhatsApp that is wrong.
func badValue(what string) *graphError {
	return &graphError{status: 400, code: 131009, kind: oauth, message: "(#131009) Parameter value is not valid", details: what}
}

func missing(index int, what string) *graphError {
	if index != onWhatsApp {
		return badParameter("The parameter " + what + " is required.")
	}
	return &graphError{status: 400, code: 131008, kind: oauth, message: "(#131008) Required parameter is missing", details: "Missing: " + what}
}

func unknownObject() *graphError {
	return &graphError{
		status: 400, code: 100, subcode: 33, kind: "GraphMethodException",
		message: "Unsupported post request. Object does not exist, cannot be loaded due to missing permissions, or does not support this operation.",
	}
}

// badToken has HTTP status 401 on WhatsApp (error-codes page) and 400 elsewhere.
func badToken(index int) *graphError {
	e := &graphError{status: 400, code: 190, kind: oauth, message: "Invalid OAuth access token - Cannot parse access token"}
	if index == onWhatsApp {
		e.status, e.message = 401, "Authentication Error"
	}
	return e
}

func noSuchUser(index int) *graphError {
	if index == onWhatsApp {
		return &graphError{status: 400, code: 131026, kind: oauth, message: "(#131026) Message undeliverable", details: "Message Undeliverable."}
	}
	return &graphError{status: 400, code: 100, subcode: 2018001, kind: oauth, message: "(#100) No matching user found"}
}

func transientFault() *graphError {
	return &graphError{
		status: 500, code: 2, transient: true, kind: oauth,
		message: "An unexpected error has occurred. Please retry your request later.",
	}
}

func throttledFault(index int) *graphError {
	if index == onWhatsApp {
		return &graphError{
			status: 400, code: 130429, kind: oauth, message: "(#130429) Rate limit hit",
			details: "Message failed to send because there were too many messages sent from this phone number in a short period of time",
		}
	}
	return &graphError{status: 400, code: 613, kind: oauth, message: "(#613) Calls to this api have exceeded the rate limit."}
}
