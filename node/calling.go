package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/egress"
)

// ServiceConfig is a service that bots may call by its name (parley.Call). Zero fields
// take the defaults of callout.
type ServiceConfig struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"` // https://…, or http://… on a loopback address; a call's path is put behind it
	// Headers go with each request; each value is read from where a secret is found.
	Headers     map[string]Secret `yaml:"headers"`
	Insecure    bool              `yaml:"insecure"`    // allows http:// to other addresses
	Timeout     time.Duration     `yaml:"timeout"`     // of one attempt; default 10s
	Attempts    int               `yaml:"attempts"`    // after which a call is given up; default 5
	Within      time.Duration     `yaml:"within"`      // since the turn, after which it is given up; default 1m
	Concurrency int               `yaml:"concurrency"` // attempts at once, of one node; default 16
	Breaker     BreakerConfig     `yaml:"breaker"`
}

// BreakerConfig says when a service is left alone.
type BreakerConfig struct {
	Failures int           `yaml:"failures"` // in a row; default 10
	OpenFor  time.Duration `yaml:"open_for"` // at first; default 5s
}

// service is c as callout knows it, without the headers' values.
func (c *ServiceConfig) service() callout.Service {
	return callout.Service{
		Name: c.Name, URL: c.URL, Insecure: c.Insecure, Timeout: c.Timeout, Attempts: c.Attempts, Within: c.Within,
		Concurrency: c.Concurrency, Failures: c.Breaker.Failures, OpenFor: c.Breaker.OpenFor,
	}
}

// unknownAfter is for how long a call of a service that this node doesn't know is left
// to the others: they may have been given a newer configuration.
const unknownAfter = 30 * time.Second

func (k *check) services(services []ServiceConfig) {
	if len(services) > callout.MaxServices {
		k.complain("services: at most %d", callout.MaxServices)
	}
	seen := map[string]bool{}
	for i := range services {
		c := &services[i]
		at := fmt.Sprintf("services[%d] %q", i, c.Name)
		if seen[c.Name] {
			k.complain("%s: the name is there already", at)
		}
		seen[c.Name] = true
		s := c.service()
		s.Headers = map[string]string{}
		for name, secret := range c.Headers {
			s.Headers[name] = ""
			if err := secret.check(); err != nil {
				k.complain("%s: headers: %s: %w", at, name, err)
			}
		}
		if err := s.Validate(); err != nil {
			k.complain("%s: %w", at, err)
		}
	}
}

// readServices reads the headers' values.
func readServices(configs []ServiceConfig, dir string) (services []callout.Service, _ error) {
	var errs []error
	for i := range configs {
		s := configs[i].service()
		s.Headers = map[string]string{}
		for name, secret := range configs[i].Headers {
			value, err := secret.Resolve(dir)
			if err != nil {
				errs = append(errs, fmt.Errorf("service %s: header %s: %w", s.Name, name, err))
			}
			s.Headers[name] = value
		}
		services = append(services, s)
	}
	return services, errors.Join(errs...)
}

// newCallout puts together what makes the calls of bots.
func (n *Node) newCallout(registry *prometheus.Registry) (*callout.Caller, error) {
	cfg := callout.Config{
		Calls: n.store, Services: n.services, Deliverer: n.host, Holder: n.holder(), Drain: egressDrain, Clock: egress.SinceBoot,
		Logger: n.log.With(slog.String("part", "callout")), Registerer: registry,
	}
	if n.members != nil {
		cfg.UnknownAfter = unknownAfter
	}
	return callout.New(cfg)
}

// sendAndCall runs what speaks to others. Both take the same time to drain, and take
// it together.
func (n *Node) sendAndCall(ctx context.Context) error {
	var called error
	var calls sync.WaitGroup
	calls.Go(func() { called = n.callout.Run(ctx) })
	calls.Go(func() { n.proofs.watch(ctx, reloadEvery, n.log, n.callout) })
	err := n.egress.Run(ctx)
	calls.Wait()
	return errors.Join(err, called)
}
