package callout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// The headers of a signed request.
const (
	SignatureHeader = "X-Parley-Signature" // what Sign makes
	TimestampHeader = "X-Parley-Timestamp" // seconds since 1970, of this attempt
)

// Sign is the signature of a request with a secret: "sha256=" and the HMAC-SHA256, in
// hexadecimal digits, of the timestamp, a full stop and the body. The time is in it so
// that a request that somebody has recorded is of no use later.
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(timestamp)) // a hash never fails
	_, _ = mac.Write([]byte{'.'})
	_, _ = mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
