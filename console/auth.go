package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const schemeName = "token" // of the security scheme, in the description

// refusal names why a request was refused; a value of a metric's label.
type refusal string

const (
	unset   refusal = "unset"   // there is no token that would do
	missing refusal = "missing" // the request brings none
	wrong   refusal = "wrong"   // the request brings another one
)

// refusals are the texts. None repeats what was brought.
func refusals() map[refusal]string {
	return map[refusal]string{
		unset: "This node has no token for its admin API, so it serves nobody. " +
			"Make a long random token, put it into the environment of each node, and into its configuration: " +
			"admin_token: env:PARLEY_ADMIN_TOKEN",
		missing: "A token is needed: send the header \"Authorization: Bearer TOKEN\" with what admin_token in the node's configuration names.",
		wrong:   "This is not the token of this node: send what admin_token in its configuration names.",
	}
}

// guard lets those in who have the token. It keeps the digest only: digests are of
// one length, so that the comparison tells nothing by its time.
type guard struct {
	set    bool
	digest [sha256.Size]byte
}

// refuses says why the request is refused; empty if it isn't.
func (g guard) refuses(r *http.Request) refusal {
	if !g.set {
		return unset
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return missing
	}
	brought := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(brought[:], g.digest[:]) != 1 {
		return wrong
	}
	return ""
}

// writeProblem answers with an error in the form of RFC 9457, as huma does.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}
