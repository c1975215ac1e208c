// Package dev lets a bot's developer chat with the bot in a browser: it serves the
// page, plays Meta and the users' phones (meta/metatest), runs the node as a process
// of its own that it can kill, and builds the bot anew when its source changes.
//
// Nothing of it runs in a node that serves real users. The node is told the offset of
// its clock over a pipe, which only its parent has; see [Runner].
//
// Everything is for this machine: the page is served on the loopback interface, to
// names of it only, and takes orders from pages of its own only.
package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta/metatest"
)

// Brand is the one to which the simulated business belongs.
const Brand parley.Brand = "dev"

// Config is what a stage is made from.
type Config struct {
	Dir  string // keeps what is on the phones, and all else of this package
	Page http.Handler
	// Runner says how the node is started.
	Runner RunnerConfig
	// Builder says what is built, if something is.
	Builder *Builder
	Log     *slog.Logger
}

// Stage is the phones, the node and the page together.
type Stage struct {
	cfg     Config
	carrier *metatest.Carrier
	runner  *Runner
	hub     *hub
	saved   saved
}

// saved is what a stage keeps in its folder, beside the node's store.
type saved struct {
	OffsetMS int64           `json:"offset_ms"` // of the clock
	Phones   json.RawMessage `json:"phones"`
}

const (
	savedFile = "phones.json"
	savedMode = 0o600
	saveEvery = time.Second
)

// New puts a stage up from what its folder has, or with a user on each platform. url is
// where it will be served.
func New(cfg Config, url string, now time.Time) (*Stage, error) {
	s := &Stage{cfg: cfg, hub: newHub()}
	file, err := os.ReadFile(filepath.Join(cfg.Dir, savedFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the phones: %w", err)
	}
	if len(file) > 0 {
		if err := json.Unmarshal(file, &s.saved); err != nil {
			return nil, fmt.Errorf("read the phones: %w", err)
		}
	}
	offset := time.Duration(s.saved.OffsetMS) * time.Millisecond
	phones, err := s.phones(url, now.Add(offset))
	if err != nil {
		return nil, err
	}
	if s.carrier, err = metatest.NewCarrier(phones, offset, s.hub.tell); err != nil {
		return nil, err
	}
	cfg.Runner.Offset = offset
	s.runner = NewRunner(cfg.Runner, s.hub.tell)
	return s, nil
}

// Close lets go of what New took; harmless after Run.
func (s *Stage) Close() error { return s.carrier.Close() }

func (s *Stage) phones(url string, now time.Time) (*metatest.Phones, error) {
	cfg := metatest.PhonesConfig{Seed: uint64(now.UnixNano()), App: "dev", Media: url + mediaPath}
	if len(s.saved.Phones) > 0 {
		return metatest.RestorePhones(cfg, s.saved.Phones, now)
	}
	phones := metatest.NewPhones(cfg, now)
	for _, user := range []struct {
		platform metatest.Platform
		name     string
	}{{metatest.Messenger, "Ada"}, {metatest.Instagram, "Bruno"}, {metatest.WhatsApp, "Chen"}} {
		if _, err := phones.Add(user.platform, user.name); err != nil {
			return nil, err
		}
	}
	return phones, nil
}

// Business is what the node's configuration needs to know.
type Business struct {
	metatest.PhonesConfig
	Channels []metatest.Channel
	GraphURL string
}

// Business tells it.
func (s *Stage) Business() (b Business) {
	b.GraphURL = s.carrier.GraphURL()
	_ = s.carrier.See(func(p *metatest.Phones, _ time.Time) error {
		b.PhonesConfig, b.Channels = p.Config(), p.Channels()
		return nil
	})
	return b
}

// Run plays until ctx ends: phones, node and builder. The page is served by whoever
// serves [Stage.Handler].
func (s *Stage) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	errs := make(chan error, 4) //nolint:mnd // as many as are started below
	begin := func(run func(context.Context) error) {
		go func() {
			err := run(ctx)
			if err != nil {
				stop(err)
			}
			errs <- err
		}()
	}
	begin(s.carrier.Run)
	begin(s.keep)
	begin(func(ctx context.Context) error { return s.runner.Run(ctx, s.target) })
	begin(s.build)
	var all []error
	for range cap(errs) {
		all = append(all, <-errs)
	}
	return errors.Join(append(all, s.save())...)
}

// target says where webhooks go.
func (s *Stage) target(webhooks string) {
	if webhooks != "" {
		webhooks = "http://" + webhooks + "/webhooks/" + s.Business().App
	}
	s.carrier.SetTarget(webhooks)
	s.hub.tell()
}

func (s *Stage) build(ctx context.Context) error {
	if s.cfg.Builder == nil {
		return nil
	}
	return s.cfg.Builder.Run(ctx, func(b Build) {
		s.runner.Built(b)
		s.hub.tell()
	})
}

// keep saves the phones now and then, if something has changed.
func (s *Stage) keep(ctx context.Context) error {
	news, leave := s.hub.join()
	defer leave()
	rest := time.NewTicker(saveEvery) //nolint:forbidigo // how often people's chats are saved
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		select {
		case <-news:
			if err := s.save(); err != nil {
				return err
			}
		default:
		}
	}
}

func (s *Stage) save() error {
	out := saved{OffsetMS: s.runner.Offset().Milliseconds()}
	err := s.carrier.See(func(p *metatest.Phones, _ time.Time) (err error) {
		out.Phones, err = p.Save()
		return err
	})
	if err != nil {
		return err
	}
	b, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("save the phones: %w", err)
	}
	path := filepath.Join(s.cfg.Dir, savedFile)
	if err := os.WriteFile(path+".tmp", b, savedMode); err != nil {
		return fmt.Errorf("save the phones: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("save the phones: %w", err)
	}
	return nil
}

// Jump puts the clock of the node and of the phones forward.
func (s *Stage) Jump(ctx context.Context, by time.Duration) error {
	if by <= 0 || by > jumpMost {
		return fmt.Errorf("want a jump of more than nothing and at most %s", jumpMost)
	}
	offset := s.runner.Offset() + by
	if offset > offsetMost {
		return errors.New("that is too far in the future")
	}
	if err := s.runner.Shift(ctx, offset); err != nil {
		return err
	}
	s.carrier.Shift(offset)
	return nil
}

const (
	jumpMost   = 366 * 24 * time.Hour
	offsetMost = 20 * jumpMost
)

// conversation is the one of a phone, as the node knows it.
func conversation(f *metatest.Phone) parley.Conversation {
	key := parley.UserKey
	if f.Platform == metatest.WhatsApp {
		key = parley.PhoneKey
	}
	return parley.Conversation{
		Channel: parley.Channel{Brand: Brand, Kind: parley.ChannelKind(f.Platform), ID: f.Channel},
		Contact: parley.Contact(key) + parley.Contact(f.ID),
	}
}

// readAll reads a bounded body.
func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return b, err
}
