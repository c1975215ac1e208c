package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// mediaCommand is what is done with media beside messages.
type mediaCommand struct {
	Upload mediaUpload `cmd:"" help:"Leave a file with Meta, and print the id by which a bot can send it (parley.Media.ID)."`
}

// mediaUpload uploads with the token of a channel, as it stands in the configuration.
// No node need run.
type mediaUpload struct {
	Config  string           `short:"c" default:"parley.yaml" type:"path" help:"The configuration file, which has the channel and its token."`
	Channel string           `required:"" help:"Whose messages the file is for: brand/kind/id."`
	Kind    parley.MediaKind `enum:",image,audio,video,document,sticker" default:"" help:"image, audio, video, document or sticker; what its type says if not given."`
	Type    string           `help:"The file's type, such as image/png; what its name or its beginning says if not given."`
	File    string           `arg:"" help:"The file; for Messenger and Instagram also the URL from which Meta is to fetch it (https://…)."`
}

// Run uploads the file.
func (c mediaUpload) Run(ctx context.Context, sys *system) error {
	ch, err := parley.ParseChannel(c.Channel)
	if err != nil {
		return fmt.Errorf("--channel: %w", err)
	}
	cfg, err := ReadConfig(c.Config, sys.bots)
	if err != nil {
		return err
	}
	client, account, err := accountOf(cfg, ch, sys.bots, filepath.Dir(c.Config))
	if err != nil {
		return err
	}
	file, done, err := c.open()
	if err != nil {
		return err
	}
	id, err := client.Upload(ctx, account, ch, file)
	if ctx.Err() == nil { // else the file may still be read; the process ends with it
		done()
	}
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	_, err = fmt.Fprintln(sys.out, id)
	return err
}

// accountOf is what a channel sends with, by a configuration.
func accountOf(cfg Config, ch parley.Channel, bots []parley.Bot, dir string) (*meta.Client, meta.Account, error) {
	s, err := resolveAll(cfg, bots, dir)
	if err != nil {
		return nil, meta.Account{}, err
	}
	a, ok := s.accounts[ch]
	if !ok {
		return nil, meta.Account{}, fmt.Errorf("channel %s has no token in the configuration", ch)
	}
	client, err := meta.NewClient(meta.ClientConfig{BaseURL: a.url, InstagramURL: a.url, Version: cfg.Graph.Version})
	return client, meta.Account{Token: s.tokens.of(ch), Secret: a.secret, Sending: meta.Sending{From: a.from}}, err
}

// open is the file that is meant, and what is to be done when it isn't read any more.
func (c mediaUpload) open() (f meta.File, done func(), err error) {
	done = func() {}
	f = meta.File{Kind: c.Kind, MIME: c.Type, Name: filepath.Base(c.File)}
	if strings.HasPrefix(c.File, "https://") || strings.HasPrefix(c.File, "http://") {
		f.URL = c.File
		name, _, _ := strings.Cut(c.File, "?")
		f.MIME = cmp.Or(f.MIME, mime.TypeByExtension(filepath.Ext(name)))
		f.Kind = cmp.Or(f.Kind, kindOf(f.MIME))
		return f, done, nil
	}
	file, err := os.Open(c.File)
	if err != nil {
		return f, done, fmt.Errorf("open file: %w", err)
	}
	done = func() { _ = file.Close() } // it was only read
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err == nil && f.MIME == "" {
		f.MIME, err = typeOf(file)
	}
	if err != nil {
		done()
		return f, done, fmt.Errorf("open file: %w", err)
	}
	f.Content, f.Size, f.Kind = file, info.Size(), cmp.Or(f.Kind, kindOf(f.MIME))
	return f, done, nil
}

// typeOf is the type of a file by its name, or else by its beginning.
func typeOf(file *os.File) (string, error) {
	if t := mime.TypeByExtension(filepath.Ext(file.Name())); t != "" {
		return t, nil
	}
	const enough = 512 // bytes that http.DetectContentType looks at
	begin := make([]byte, enough)
	n, err := file.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return http.DetectContentType(begin[:n]), nil
}

// kindOf is what media of a type are sent as, unless somebody wants otherwise.
func kindOf(mimeType string) parley.MediaKind {
	switch sort, _, _ := strings.Cut(mimeType, "/"); sort {
	case "image":
		return parley.Image
	case "audio":
		return parley.Audio
	case "video":
		return parley.Video
	}
	return parley.Document
}
