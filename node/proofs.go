package node

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/callout/httpbot"
)

// proofs are what services and bots over HTTP know a node by. As with the tokens
// of channels, those that stand in files are read again while the node runs.
type proofs struct {
	dir string // of relative paths
	of  []*proof
}

// proof is a service's, as it was told last, and the files that it stands in.
type proof struct {
	service string
	headers map[string]string
	secret  string
	places  map[string]Secret // of headers
	place   Secret            // of the secret; empty if it stands in no file
}

// newProofs takes services as they were read, and where that was.
func newProofs(cfg *Config, dir string, services []callout.Service) *proofs {
	c := &proofs{dir: dir}
	read := map[string]callout.Service{}
	for _, s := range services {
		read[s.Name] = s
	}
	for i := range cfg.Services {
		s := read[cfg.Services[i].Name]
		places := maps.Clone(cfg.Services[i].Headers)
		maps.DeleteFunc(places, func(_ string, place Secret) bool { return !inFile(place) })
		if len(places) > 0 {
			c.of = append(c.of, &proof{service: s.Name, headers: s.Headers, places: places})
		}
	}
	for i := range cfg.HTTPBots {
		if place := cfg.HTTPBots[i].Secret; inFile(place) {
			s := read[httpbot.Service(cfg.HTTPBots[i].Name)]
			c.of = append(c.of, &proof{service: s.Name, headers: s.Headers, secret: s.Secret, place: place})
		}
	}
	return c
}

func inFile(place Secret) bool { return strings.HasPrefix(string(place), "file:") }

// look reads the files again and returns those that have changed. A file that can't be
// read is halfway written, perhaps: what stands in it stays as it is.
func (c *proofs) look() (changed []*proof) {
	for _, one := range c.of {
		headers := maps.Clone(one.headers)
		for name, place := range one.places {
			if value, err := place.Resolve(c.dir); err == nil {
				headers[name] = value
			}
		}
		secret := one.secret
		if value, err := one.place.Resolve(c.dir); err == nil {
			secret = value
		}
		if secret != one.secret || !maps.Equal(headers, one.headers) {
			one.headers, one.secret = headers, secret
			changed = append(changed, one)
		}
	}
	return changed
}

// watch looks now and then until ctx ends, and renews what has changed.
func (c *proofs) watch(ctx context.Context, every time.Duration, log *slog.Logger, caller *callout.Caller) {
	if len(c.of) == 0 {
		return
	}
	for wait(ctx, every); ctx.Err() == nil; wait(ctx, every) {
		for _, one := range c.look() {
			if err := caller.Renew(one.service, one.headers, one.secret); err != nil {
				log.WarnContext(ctx, "new credentials can't be used", slog.String("service", one.service), slog.Any("error", err))
				continue
			}
			log.InfoContext(ctx, "new credentials", slog.String("service", one.service))
		}
	}
}
