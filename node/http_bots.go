package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/callout/httpbot"
)

// HTTPBotConfig is a bot that is served by a URL (docs/http-bots.md). Zero fields take
// the defaults of callout.
type HTTPBotConfig struct {
	Name   string `yaml:"name"` // that channels give as their bot
	URL    string `yaml:"url"`  // where events are posted: https://…
	Secret Secret `yaml:"secret"`
	// AllowPrivate lets the URL lead to loopback addresses and private networks, and
	// be http:// on a loopback address; Insecure lets it be http:// elsewhere.
	AllowPrivate bool          `yaml:"allow_private"`
	Insecure     bool          `yaml:"insecure"`
	Timeout      time.Duration `yaml:"timeout"`     // of one attempt; default 10s
	Attempts     int           `yaml:"attempts"`    // after which the event is a dead letter; default 5
	Within       time.Duration `yaml:"within"`      // after which it is, too; default 1m
	Concurrency  int           `yaml:"concurrency"` // posts at once, of one node; default 16
	Breaker      BreakerConfig `yaml:"breaker"`
}

const (
	// botOverHTTP is the name of the bot whose URL a flag names, for the demonstration and
	// for parley dev.
	botOverHTTP = "over-http"
	// demoPosts is how many posts to it are under way at once.
	demoPosts = 64
)

// service is c as callout knows it, without the secret's value.
func (c *HTTPBotConfig) service() callout.Service {
	return callout.Service{
		Name: httpbot.Service(c.Name), URL: c.URL, Insecure: c.Insecure, Public: !c.AllowPrivate, Timeout: c.Timeout,
		Attempts: c.Attempts, Within: c.Within, Concurrency: c.Concurrency, Failures: c.Breaker.Failures, OpenFor: c.Breaker.OpenFor,
	}
}

// withHTTPBots are the program's bots and those that the configuration has.
func (c Config) withHTTPBots(bots []parley.Bot) []parley.Bot {
	all := slices.Clip(bots)
	for i := range c.HTTPBots {
		all = append(all, httpbot.Bot(c.HTTPBots[i].Name))
	}
	return all
}

func (k *check) httpBots(bots []HTTPBotConfig) {
	if len(bots) > callout.MaxServices/2 { // services, too
		k.complain("http_bots: at most %d", callout.MaxServices/2)
	}
	for i := range bots {
		c := &bots[i]
		at := fmt.Sprintf("http_bots[%d] %q", i, c.Name)
		if c.Secret == "" {
			k.complain("%s: secret: without it the bot could not tell who asks", at)
		} else if err := c.Secret.check(); err != nil {
			k.complain("%s: secret: %w", at, err)
		}
		s := c.service()
		if err := s.Validate(); err != nil {
			k.complain("%s: %w", at, err)
		}
	}
}

// readHTTPBots reads the bots' secrets.
func readHTTPBots(configs []HTTPBotConfig, dir string) (services []callout.Service, _ error) {
	var errs []error
	for i := range configs {
		s := configs[i].service()
		var err error
		if s.Secret, err = configs[i].Secret.Resolve(dir); err != nil {
			errs = append(errs, fmt.Errorf("http bot %s: %w", configs[i].Name, err))
		}
		services = append(services, s)
	}
	return services, errors.Join(errs...)
}
