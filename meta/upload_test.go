package meta_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// uploaded is what reached the Graph API.
type uploaded struct {
	Path, Body string
	Form       []string // name, file name, type and content of each part
}

func readUploaded(r *http.Request) (u uploaded, err error) {
	u.Path = r.URL.String()
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return u, err
	}
	if kind == "application/json" {
		b, err := io.ReadAll(r.Body)
		u.Body = string(b)
		return u, err
	}
	form := multipart.NewReader(r.Body, params["boundary"])
	for {
		p, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return u, nil
		}
		if err != nil {
			return u, err
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return u, err
		}
		u.Form = append(u.Form, fmt.Sprintf("%s %s %s %s", p.FormName(), p.FileName(), p.Header.Get("Content-Type"), b))
	}
}

// fileOfTen is a file on disk, of ten digits.
func fileOfTen(t *testing.T) *os.File {
	t.Helper()
	onDisk := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(onDisk, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := os.Open(onDisk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	return disk
}

func TestUpload(t *testing.T) {
	t.Parallel()
	disk := fileOfTen(t)
	content := func(k parley.MediaKind, kind, name string) meta.File {
		return meta.File{Kind: k, Content: strings.NewReader("abcd"), Size: 4, MIME: kind, Name: name}
	}
	for name, c := range map[string]struct {
		kind   parley.ChannelKind
		from   string
		file   meta.File
		answer string
		want   uploaded
	}{
		"whatsapp": {
			parley.WhatsApp, "", content(parley.Image, "image/png", "a \"b\".png"), `{"id":"4711"}`,
			uploaded{Path: "/v26.0/77/media", Form: []string{"messaging_product   whatsapp", "type   image/png", `file a "b".png image/png abcd`}},
		},
		"whatsapp, from disk, number as id": {
			parley.WhatsApp, "",
			meta.File{Kind: parley.Document, Content: disk, Size: 10, MIME: "text/plain"},
			`{"id":4711}`,
			uploaded{Path: "/v26.0/77/media", Form: []string{"messaging_product   whatsapp", "type   text/plain", "file file text/plain 0123456789"}},
		},
		"messenger, URL": {
			parley.Messenger, "",
			meta.File{Kind: parley.Document, URL: "https://shop.example/a.pdf"},
			`{"attachment_id":"4711"}`,
			uploaded{Path: "/v26.0/77/message_attachments", Body: `{"message":{"attachment":{"type":"file","payload":{"url":"https://shop.example/a.pdf","is_reusable":true}}}}`},
		},
		"messenger": {
			parley.Messenger, "", content(parley.Audio, "audio/mp3", "a.mp3"), `{"attachment_id":"4711"}`,
			uploaded{Path: "/v26.0/77/message_attachments", Form: []string{`message   {"attachment":{"type":"audio","payload":{"is_reusable":true}}}`, "filedata a.mp3 audio/mp3 abcd"}},
		},
		"instagram by a page, URL": {
			parley.Instagram, "99",
			meta.File{Kind: parley.Image, URL: "https://shop.example/a.png"},
			`{"attachment_id":"4711"}`,
			uploaded{Path: "/v26.0/99/message_attachments", Body: `{"platform":"instagram","message":{"attachment":{"type":"image","payload":{"url":"https://shop.example/a.png","is_reusable":true}}}}`},
		},
		"instagram": {
			parley.Instagram, "", content(parley.Video, "video/mp4", "a.mp4"), `{"attachment_id":"4711"}`,
			uploaded{Path: "/v26.0/77/message_attachments", Form: []string{`message   {"attachment":{"type":"video","payload":{"is_reusable":true}}}`, "platform   instagram", "filedata a.mp4 video/mp4 abcd"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got uploaded
			g := newGraph(t, func(w http.ResponseWriter, r *http.Request) {
				var err error
				if got, err = readUploaded(r); err != nil {
					t.Error(err)
				}
				says(200, c.answer)(w, r)
			})
			a := meta.Account{Token: "token", Sending: meta.Sending{From: c.from}}
			ch := parley.Channel{Brand: "acme", Kind: c.kind, ID: "77"}
			id, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Upload(t.Context(), a, ch, c.file)
			if err != nil || id != "4711" {
				t.Fatalf("%q, %v", id, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestUploadFails sees that a file is never in doubt: it is simply left again.
func TestUploadFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		class  meta.Class
	}{
		"lost":    {502, "<html>", meta.ClassRetry},
		"no id":   {200, "{}", meta.ClassRetry},
		"too big": {400, `{"error":{"message":"(#100) Too large","code":100,"error_subcode":2018109}}`, meta.ClassPermanent},
		"token":   {400, `{"error":{"message":"Expired","code":190,"error_subcode":463}}`, meta.ClassTenant},
	} {
		g := newGraph(t, says(c.status, c.body))
		f := meta.File{Kind: parley.Image, URL: "https://shop.example/a.png"}
		ch := parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "77"}
		id, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Upload(t.Context(), meta.Account{}, ch, f)
		if e := graphError(t, err); id != "" || e.Class != c.class {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
}

func TestUploadLimits(t *testing.T) {
	t.Parallel()
	g := newGraph(t, says(200, `{"id":"1","attachment_id":"1"}`))
	c := client(t, meta.ClientConfig{BaseURL: g.URL})
	upload := func(kind parley.ChannelKind, f meta.File) error {
		_, err := c.Upload(t.Context(), meta.Account{}, parley.Channel{Brand: "acme", Kind: kind, ID: "77"}, f)
		return err
	}
	sized := func(k parley.MediaKind, n int) meta.File {
		return meta.File{Kind: k, Content: bytes.NewReader(nil), Size: int64(n), MIME: "a/b"}
	}
	for _, l := range []struct {
		limit string
		kind  parley.ChannelKind
		media parley.MediaKind
		max   int
	}{
		{"MaxMessengerImageBytes", parley.Messenger, parley.Image, 8 << 20},
		{"MaxMessengerImageBytes", parley.Instagram, parley.Image, 8 << 20},
		{"MaxMessengerFileBytes", parley.Messenger, parley.Video, 25 << 20},
		{"MaxMessengerFileBytes", parley.Instagram, parley.Document, 25 << 20},
		{"MaxWhatsAppImageBytes", parley.WhatsApp, parley.Image, 5 << 20},
		{"MaxWhatsAppAVBytes", parley.WhatsApp, parley.Audio, 16 << 20},
		{"MaxWhatsAppAVBytes", parley.WhatsApp, parley.Video, 16 << 20},
		{"MaxWhatsAppDocumentBytes", parley.WhatsApp, parley.Document, 100 << 20},
		{"MaxWhatsAppStickerBytes", parley.WhatsApp, parley.Sticker, 500 << 10},
	} {
		var over *meta.LimitError
		if err := upload(l.kind, sized(l.media, l.max)); errors.As(err, &over) { // it has no such content, and fails
			t.Errorf("%s: at the limit: %v", l.limit, err)
		}
		err := upload(l.kind, sized(l.media, l.max+1))
		if !errors.As(err, &over) || over.Limit != l.limit || over.Max != l.max || meta.ClassOf(err) != meta.ClassPermanent {
			t.Errorf("%s: one beyond: %v", l.limit, err)
		}
	}
	for name, err := range map[string]error{
		"sticker on messenger": upload(parley.Messenger, sized(parley.Sticker, 1)),
		"no kind":              upload(parley.WhatsApp, sized("", 1)),
		"URL on whatsapp":      upload(parley.WhatsApp, meta.File{Kind: parley.Image, URL: "https://a.example"}),
		"nothing":              upload(parley.Messenger, meta.File{Kind: parley.Image}),
		"empty":                upload(parley.Messenger, sized(parley.Image, 0)),
		"type with a line":     upload(parley.WhatsApp, meta.File{Kind: parley.Image, Content: strings.NewReader("x"), Size: 1, MIME: "a/b\r\nX: y"}),
		"account":              upload(parley.WhatsAppAccount, sized(parley.Image, 1)),
		"pigeon":               upload("pigeon", sized(parley.Image, 1)),
	} {
		if err == nil || meta.ClassOf(err) != meta.ClassPermanent {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestActionsAreRepeatable: signals and reactions are never in doubt, and need
// no id.
func TestActionsAreRepeatable(t *testing.T) {
	t.Parallel()
	signal := parley.Send{Signal: &parley.Signal{Kind: parley.Typing, MessageID: "m"}}
	passed := parley.Send{Signal: &parley.Signal{Kind: parley.PassThread, App: "1"}}
	reaction := parley.Send{Reaction: &parley.Reaction{MessageID: "m", Emoji: "x"}}
	for name, c := range map[string]struct {
		kind   parley.ChannelKind
		send   parley.Send
		status int
		body   string
		id     string
		class  meta.Class // ClassSent: no error
		tries  int
	}{
		"typing":            {parley.Messenger, signal, 200, `{"recipient_id":"5"}`, "", meta.ClassSent, 0},
		"typing, whatsapp":  {parley.WhatsApp, signal, 200, `{"success":true}`, "", meta.ClassSent, 0},
		"typing, lost":      {parley.WhatsApp, signal, 502, "", "", meta.ClassRetry, 2},
		"thread, moved":     {parley.Messenger, passed, 200, `{"success":true}`, "", meta.ClassSent, 0},
		"thread, lost":      {parley.Messenger, passed, 502, "", "", meta.ClassRetry, 0},
		"thread, another's": {parley.Instagram, passed, 400, `{"error":{"code":2018300}}`, "", meta.ClassPermanent, 0},
		"typing, refused":   {parley.WhatsApp, signal, 400, `{"error":{"code":131009}}`, "", meta.ClassPermanent, 0},
		"reaction":          {parley.Messenger, reaction, 200, `{"recipient_id":"5"}`, "", meta.ClassSent, 0},
		"reaction, with id": {parley.WhatsApp, reaction, 200, `{"messages":[{"id":"wamid.1"}]}`, "wamid.1", meta.ClassSent, 0},
		"reaction, lost":    {parley.Instagram, reaction, 504, "", "", meta.ClassRetry, 0},
		"text, lost":        {parley.Instagram, parley.Send{Text: "x"}, 504, "", "", meta.ClassUnknown, 0},
		"text, no id":       {parley.Messenger, parley.Send{Text: "x"}, 200, `{"recipient_id":"5"}`, "", meta.ClassUnknown, 0},
	} {
		g := newGraph(t, says(c.status, c.body))
		id, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Send(t.Context(), meta.Account{}, sending(t, c.kind, c.send))
		if c.class == meta.ClassSent {
			if err != nil || id != c.id {
				t.Errorf("%s: %q, %v", name, id, err)
			}
			continue
		}
		if e := graphError(t, err); id != "" || e.Class != c.class || e.Tries != c.tries {
			t.Errorf("%s: %q, %v, %d tries", name, id, err, e.Tries)
		}
	}

	lost := newBare(t, func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) })
	_, err := client(t, meta.ClientConfig{BaseURL: lost}).Send(t.Context(), meta.Account{}, sending(t, parley.Messenger, signal))
	if e := graphError(t, err); e.Class != meta.ClassRetry || e.Tries != 2 || e.Cause == nil {
		t.Errorf("connection lost: %v, %d tries", err, e.Tries)
	}
}
