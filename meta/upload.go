package meta

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"net/url"

	"github.com/go-json-experiment/json"

	"github.com/parleychat/parley"
)

// File is what is uploaded: what a URL leads to (Messenger, Instagram), or
// content.
type File struct {
	Kind parley.MediaKind
	URL  string
	// Content is read from 0 to Size, perhaps more than once, and must stay as it
	// is until Upload returns; if ctx ended it, for ClientConfig.UploadTimeout.
	Content io.ReaderAt
	Size    int64
	MIME    string // of the content: image/png
	Name    string // of the content
}

// Upload leaves a file with the provider, and returns the id for
// [parley.Media.ID]. It holds for the channel that uploads and the others of its
// Page or account; for 90 days on Messenger and Instagram, for 30 on WhatsApp.
//
// Errors are as of [Client.Send], except that none is of ClassUnknown: a file
// that is there twice does no harm.
func (c *Client) Upload(ctx context.Context, a Account, ch parley.Channel, f File) (string, error) {
	if err := f.validate(ch.Kind); err != nil {
		return "", fmt.Errorf("encode upload: %w", err)
	}
	// As in EncodeSend, the id must not name another place.
	path := url.PathEscape(cmp.Or(a.From, ch.ID)) + uploadPath(ch.Kind)
	x := c.exchange(ch.Kind, a, path)
	if err := f.fill(x, ch.Kind); err != nil {
		return "", fmt.Errorf("encode upload: %w", err)
	}
	ans, err := x.run(ctx, c.cfg.UploadTimeout)
	id := ""
	if err == nil {
		id, err = ans.readUpload(ch.Kind)
	}
	if g, ok := errors.AsType[*GraphError](err); ok && g.Class == ClassUnknown {
		g.Class = ClassRetry
	}
	return id, err
}

func uploadPath(kind parley.ChannelKind) string {
	if kind == parley.WhatsApp {
		return "/media"
	}
	return "/message_attachments"
}

func (a *answer) readUpload(kind parley.ChannelKind) (string, error) {
	b, err := a.decode(kind)
	switch {
	case err != nil:
		return "", err
	case b == nil:
	case b.Uploaded != "":
		return string(b.Uploaded), nil
	case b.MediaID != "":
		return string(b.MediaID), nil
	}
	return "", a.nameless("media")
}

func (f *File) validate(kind parley.ChannelKind) error {
	switch kind {
	case parley.Messenger, parley.Instagram, parley.WhatsApp:
	case parley.WhatsAppAccount:
		return fmt.Errorf("channel kind %s can't send", kind)
	default:
		return fmt.Errorf("channel kind %q is not known", kind)
	}
	switch {
	case !f.Kind.Valid() || f.Kind == parley.Sticker && kind != parley.WhatsApp:
		return &UnsupportedError{Kind: kind, What: "media of kind " + string(f.Kind)}
	case (f.URL == "") == (f.Content == nil):
		return errors.New("file: want a URL or content")
	case f.URL != "" && kind == parley.WhatsApp:
		return &UnsupportedError{Kind: kind, What: "upload of a URL"}
	case f.URL != "":
		return nil
	case f.Size <= 0:
		return errors.New("file without content")
	}
	if _, _, err := mime.ParseMediaType(f.MIME); err != nil {
		return fmt.Errorf("type of file: %w", err)
	}
	return within(fileLimit(kind, f.Kind, int(f.Size)))
}

func fileLimit(kind parley.ChannelKind, media parley.MediaKind, size int) limit {
	switch {
	case kind != parley.WhatsApp && media == parley.Image:
		return limit{"MaxMessengerImageBytes", size, MaxMessengerImageBytes}
	case kind != parley.WhatsApp:
		return limit{"MaxMessengerFileBytes", size, MaxMessengerFileBytes}
	case media == parley.Image:
		return limit{"MaxWhatsAppImageBytes", size, MaxWhatsAppImageBytes}
	case media == parley.Document:
		return limit{"MaxWhatsAppDocumentBytes", size, MaxWhatsAppDocumentBytes}
	case media == parley.Sticker:
		return limit{"MaxWhatsAppStickerBytes", size, MaxWhatsAppStickerBytes}
	}
	return limit{"MaxWhatsAppAVBytes", size, MaxWhatsAppAVBytes}
}

// messengerUpload is the request for what is behind a URL; of content, Message
// alone is a field of a form.
type messengerUpload struct {
	Platform string           `json:"platform,omitempty"`
	Message  messengerContent `json:"message"`
}

// fill makes the request's content. Messenger's page on attachment upload and
// WhatsApp's on media name the fields.
func (f *File) fill(x *exchange, kind parley.ChannelKind) error {
	if kind == parley.WhatsApp {
		return f.form(x, "file", [][2]string{{"messaging_product", "whatsapp"}, {"type", f.MIME}})
	}
	name, err := messengerMediaType(kind, f.Kind)
	if err != nil {
		return err
	}
	u := messengerUpload{Message: messengerContent{
		Attachment: &messengerAttached{Type: name, Payload: messengerPayload{URL: f.URL, Reusable: true}},
	}}
	if kind == parley.Instagram {
		u.Platform = "instagram"
	}
	if f.URL != "" {
		x.contentType = jsonType
		if x.body, err = json.Marshal(u); err != nil {
			return shapeOf(err)
		}
		return nil
	}
	message, err := json.Marshal(u.Message)
	if err != nil {
		return shapeOf(err)
	}
	fields := [][2]string{{"message", string(message)}}
	if u.Platform != "" {
		fields = append(fields, [2]string{"platform", u.Platform})
	}
	return f.form(x, "filedata", fields)
}

// form makes the request a form with fields and the file, of which only what
// is around the file is held in memory.
func (f *File) form(x *exchange, field string, fields [][2]string) error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, kv := range fields {
		if err := w.WriteField(kv[0], kv[1]); err != nil {
			return fmt.Errorf("write form: %w", err)
		}
	}
	_, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition(field, cmp.Or(f.Name, "file"))},
		"Content-Type":        {f.MIME},
	})
	if err != nil {
		return fmt.Errorf("write form: %w", err)
	}
	head := b.Len()
	if err := w.Close(); err != nil {
		return fmt.Errorf("write form: %w", err)
	}
	x.contentType = w.FormDataContentType()
	x.body, x.tail = b.Bytes()[:head], b.Bytes()[head:]
	x.file = io.NewSectionReader(f.Content, 0, f.Size)
	return nil
}
