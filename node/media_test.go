package node_test

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/node"
)

// received is an upload as the Graph API got it.
type received struct {
	Path, Token, Field, Type, Name, Content string
	Proof                                   bool
	JSON                                    string
}

func readUpload(t *testing.T, r *http.Request) received {
	t.Helper()
	got := received{Path: r.URL.Path, Token: r.Header.Get("Authorization"), Proof: r.URL.Query().Get("appsecret_proof") != ""}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Error(err)
	}
	if kind == "application/json" {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got.JSON = string(b)
		return got
	}
	form := multipart.NewReader(r.Body, params["boundary"])
	for {
		p, err := form.NextPart()
		if err != nil {
			return got
		}
		if p.FileName() == "" {
			continue
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Error(err)
		}
		got.Field, got.Type, got.Name, got.Content = p.FormName(), p.Header.Get("Content-Type"), p.FileName(), string(b)
	}
}

func TestMediaUpload(t *testing.T) {
	t.Parallel()
	const config = `
listen: 127.0.0.1:0
graph: {url: GRAPH, version: v26.0}
apps:
- name: shop
  secrets: ["file:secret"]
  verify_tokens: ["file:secret"]
  channels:
  - {brand: acme, kind: whatsapp, id: "77", token: "file:token"}
  - {brand: acme, kind: messenger, id: "88", token: "file:token"}
  - {brand: acme, kind: whatsapp_account, id: "99"}
`
	png := "\x89PNG\r\n\x1a\nrest"
	for name, c := range map[string]struct {
		args []string
		want received
		id   string
		errs string
	}{
		"ByName":    {[]string{"--channel", "acme/whatsapp/77", "DIR/menu.pdf"}, received{Path: "/v26.0/77/media", Field: "file", Type: "application/pdf", Name: "menu.pdf", Content: "%PDF"}, "4711\n", ""},
		"ByContent": {[]string{"--channel", "acme/whatsapp/77", "DIR/picture"}, received{Path: "/v26.0/77/media", Field: "file", Type: "image/png", Name: "picture", Content: png}, "4711\n", ""},
		"ByFlags":   {[]string{"--channel", "acme/messenger/88", "--kind", "audio", "--type", "audio/mpeg", "DIR/picture"}, received{Path: "/v26.0/88/message_attachments", Field: "filedata", Type: "audio/mpeg", Name: "picture", Content: png}, "4712\n", ""},
		"URL":       {[]string{"--channel", "acme/messenger/88", "https://shop.example/a.png?x=1"}, received{Path: "/v26.0/88/message_attachments", JSON: `{"message":{"attachment":{"type":"image","payload":{"url":"https://shop.example/a.png?x=1","is_reusable":true}}}}`}, "4712\n", ""},
		"NoToken":   {[]string{"--channel", "acme/whatsapp_account/99", "DIR/picture"}, received{}, "", "no token"},
		"NoChannel": {[]string{"--channel", "77", "DIR/picture"}, received{}, "", "--channel"},
		"NoFile":    {[]string{"--channel", "acme/whatsapp/77", "DIR/nothing"}, received{}, "", "open file"},
		"Folder":    {[]string{"--channel", "acme/whatsapp/77", "DIR"}, received{}, "", "not a file"},
		"Empty":     {[]string{"--channel", "acme/whatsapp/77", "DIR/empty.png"}, received{}, "", "file without content"},
		"Limit":     {[]string{"--channel", "acme/whatsapp/77", "--kind", "sticker", "DIR/large.webp"}, received{}, "", "MaxWhatsAppStickerBytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got received
			graph := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = readUpload(t, r)
				_, _ = io.WriteString(w, map[bool]string{true: `{"id":"4711"}`, false: `{"attachment_id":"4712"}`}[strings.HasSuffix(got.Path, "/media")])
			}))
			defer graph.Close()
			dir := t.TempDir()
			for name, text := range map[string]string{
				"secret": appSecret, "token": "let me in", "picture": png, "menu.pdf": "%PDF", "empty.png": "", "large.webp": strings.Repeat("x", 600_000),
				"parley.yaml": strings.ReplaceAll(config, "GRAPH", graph.URL),
			} {
				write(t, dir, name, text)
			}
			args := []string{"media", "upload", "--config", filepath.Join(dir, "parley.yaml")}
			for _, a := range c.args {
				args = append(args, strings.ReplaceAll(a, "DIR", dir))
			}
			var out, errs bytes.Buffer
			code := node.Command(t.Context(), &out, &errs, args...)
			if (code == 0) != (c.errs == "") || !strings.Contains(errs.String(), c.errs) || out.String() != c.id {
				t.Errorf("exit code %d, printed %q: %s", code, out.String(), errs.String())
			}
			if c.want.Path != "" {
				c.want.Token, c.want.Proof = "Bearer let me in", true
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
