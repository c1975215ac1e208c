package meta

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"strings"
	"sync"
)

// SignatureHeader carries the signature of a webhook body: "sha256=" and 64
// lowercase hexadecimal digits. The older X-Hub-Signature (sha1) is not
// accepted: a body that has only that one has no signature.
const SignatureHeader = "X-Hub-Signature-256"

const signaturePrefix = "sha256="

// maxChallengeBytes bounds what is echoed to an unauthenticated caller. Meta
// sends a decimal integer.
const maxChallengeBytes = 256

// Why a body is not trusted.
var (
	ErrSignatureMissing   = errors.New("signature missing")
	ErrSignatureMalformed = errors.New("signature malformed: want sha256= and 64 lowercase hexadecimal digits")
	ErrSignatureWrong     = errors.New("signature wrong")
	// ErrSecretMissing is the answer to an app without a usable secret.
	ErrSecretMissing = errors.New("app secret missing")
)

// Handshake answers Meta's GET that verifies a callback URL. The arguments are
// the query parameters hub.mode, hub.verify_token and hub.challenge. If one of
// the tokens matches, the challenge is to be echoed as text/plain with status
// 200; otherwise the answer is 403. Empty tokens match nothing. All tokens are
// compared, in constant time.
func Handshake(mode, token, challenge string, tokens []string) (string, bool) {
	sent := sha256.Sum256([]byte(token)) // equal lengths: the compare takes the same time for all
	match := 0
	for _, t := range tokens {
		want := sha256.Sum256([]byte(t))
		if t != "" {
			match |= subtle.ConstantTimeCompare(sent[:], want[:])
		}
	}
	if match == 0 || mode != "subscribe" || challenge == "" || len(challenge) > maxChallengeBytes {
		return "", false
	}
	return challenge, true
}

// A Verifier checks signatures with the secrets of one app: the current one,
// older ones during a rotation, and Instagram's own, which differs from the
// Facebook app secret of the same app. It is safe for concurrent use.
type Verifier struct {
	keys []*sync.Pool // of *mac, one pool for each secret
}

// mac is a keyed hash with room for its sum. Keying one costs as much as
// hashing a small body, hence the pools.
type mac struct {
	hash.Hash
	sum [sha256.Size]byte
}

// NewVerifier keeps the secrets that are not empty. Without any it trusts no
// body: Verify answers ErrSecretMissing.
func NewVerifier(secrets []string) *Verifier {
	v := &Verifier{}
	for _, s := range secrets {
		if s == "" {
			continue
		}
		key := []byte(s)
		v.keys = append(v.keys, &sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }})
	}
	return v
}

// Verify checks header, the value of [SignatureHeader], against the body's raw
// bytes. The digits must be lowercase, as Meta sends them: nobody else is
// expected to sign. All secrets are tried, in constant time.
func (v *Verifier) Verify(body []byte, header string) error {
	if len(v.keys) == 0 {
		return ErrSecretMissing
	}
	sent, err := parseSignature(header)
	if err != nil {
		return err
	}
	match := 0
	for _, pool := range v.keys {
		m, ok := pool.Get().(*mac)
		if !ok {
			return ErrSecretMissing // the pools hold nothing else
		}
		m.Reset()
		_, _ = m.Write(body) // a hash never fails
		match |= subtle.ConstantTimeCompare(m.Sum(m.sum[:0]), sent[:])
		pool.Put(m)
	}
	if match == 0 {
		return ErrSignatureWrong
	}
	return nil
}

// Verify is [Verifier.Verify] for a single body.
func Verify(body []byte, header string, secrets []string) error {
	return NewVerifier(secrets).Verify(body, header)
}

// Sign is the value of [SignatureHeader] that Meta would send with the body.
func Sign(body []byte, secret string) string {
	m := hmac.New(sha256.New, []byte(secret))
	_, _ = m.Write(body) // a hash never fails
	return signaturePrefix + hex.EncodeToString(m.Sum(nil))
}

func parseSignature(header string) (sum [sha256.Size]byte, err error) {
	if header == "" {
		return sum, ErrSignatureMissing
	}
	digits, ok := strings.CutPrefix(header, signaturePrefix)
	if !ok || len(digits) != hex.EncodedLen(len(sum)) {
		return sum, ErrSignatureMalformed
	}
	for i := range sum {
		hi, lo := nibble(digits[2*i]), nibble(digits[2*i+1])
		if hi|lo > 0x0f {
			return sum, ErrSignatureMalformed
		}
		sum[i] = hi<<4 | lo
	}
	return sum, nil
}

// nibble is the value of a lowercase hexadecimal digit, 0xff of anything else.
func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
