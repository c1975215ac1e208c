package meta_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parleychat/parley/meta"
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	tokens := []string{"", "old", "new"}
	for _, c := range []struct {
		mode, token, challenge string
		tokens                 []string
		ok                     bool
	}{
		{"subscribe", "new", "1158201444", tokens, true},
		{"subscribe", "old", "1158201444", tokens, true},
		{"subscribe", "other", "1158201444", tokens, false},
		{"subscribe", "ne", "1158201444", tokens, false},
		{"subscribe", "", "1158201444", tokens, false},
		{"subscribe", "", "1158201444", nil, false},
		{"unsubscribe", "new", "1158201444", tokens, false},
		{"", "new", "1158201444", tokens, false},
		{"subscribe", "new", "", tokens, false},
		{"subscribe", "new", strings.Repeat("1", 300), tokens, false},
	} {
		got, ok := meta.Handshake(c.mode, c.token, c.challenge, c.tokens)
		if ok != c.ok || ok && got != c.challenge || !ok && got != "" {
			t.Errorf("%+v: %q, %t", c, got, ok)
		}
	}
}

// TestVerifyKnown is a signature made elsewhere: RFC 4231, test case 2.
func TestVerifyKnown(t *testing.T) {
	t.Parallel()
	const header = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	if err := meta.Verify([]byte("what do ya want for nothing?"), header, []string{"Jefe"}); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	body := []byte(`{"object":"page"}`)
	good := meta.Sign(body, "secret")
	v := meta.NewVerifier([]string{"older", "", "secret"})
	for name, c := range map[string]struct {
		body   string
		header string
		want   error
	}{
		"good":                 {string(body), good, nil},
		"signed by the older":  {string(body), meta.Sign(body, "older"), nil},
		"other secret":         {string(body), meta.Sign(body, "other"), meta.ErrSignatureWrong},
		"empty secret":         {string(body), meta.Sign(body, ""), meta.ErrSignatureWrong},
		"body changed":         {`{"object":"Page"}`, good, meta.ErrSignatureWrong},
		"missing":              {string(body), "", meta.ErrSignatureMissing},
		"sha1":                 {string(body), "sha1=" + good[7:47], meta.ErrSignatureMalformed},
		"no prefix":            {string(body), good[7:], meta.ErrSignatureMalformed},
		"short":                {string(body), good[:70], meta.ErrSignatureMalformed},
		"long":                 {string(body), good + "0", meta.ErrSignatureMalformed},
		"upper case":           {string(body), "sha256=" + strings.ToUpper(good[7:]), meta.ErrSignatureMalformed},
		"not hexadecimal":      {string(body), "sha256=" + strings.Repeat("g", 64), meta.ErrSignatureMalformed},
		"white space at start": {string(body), " " + good, meta.ErrSignatureMalformed},
	} {
		if err := v.Verify([]byte(c.body), c.header); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := meta.Verify(body, good, []string{""}); !errors.Is(err, meta.ErrSecretMissing) {
		t.Errorf("without a secret: %v", err)
	}
}

// TestVerifyOneBit changes one bit of the body or of the signature.
func TestVerifyOneBit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(r, "body")
		v := meta.NewVerifier([]string{"a", "b"})
		header := meta.Sign(body, "b")
		if err := v.Verify(body, header); err != nil {
			r.Fatal(err)
		}
		i, bit := rapid.IntRange(0, len(body)-1).Draw(r, "byte"), rapid.IntRange(0, 7).Draw(r, "bit")
		body[i] ^= 1 << bit
		if err := v.Verify(body, header); !errors.Is(err, meta.ErrSignatureWrong) {
			r.Fatal(err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("{}"), meta.Sign([]byte("{}"), "secret"))
	f.Add([]byte(""), "sha256=")
	v := meta.NewVerifier([]string{"secret"})
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		if err := v.Verify(body, header); (err == nil) != (header == meta.Sign(body, "secret")) {
			t.Fatalf("%q: %v", header, err)
		}
	})
}
