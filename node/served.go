package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// served is the configuration with its secrets read and its names resolved.
type served struct {
	apps     []ingress.App
	channels map[parley.App][]parley.Channel
	bots     map[parley.Channel]*parley.Bot
	accounts map[parley.Channel]account
	paces    map[parley.Channel]float64 // of channels with one of their own
	awaits   map[parley.Channel]time.Duration
	threads  map[parley.Channel]string // the apps that get their threads
	tokens   *tokens
}

// account is what is needed to send for a channel, beside its token.
type account struct {
	secret string // of the app, for appsecret_proof
	url    string // of the Graph API
	from   string // the Page through which an Instagram account is reached
}

// silent serves the channels that have no bot: their events are consumed and
// kept in the history, and nobody answers.
func silent() *parley.Bot {
	return &parley.Bot{Name: "silent", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
}

func (s *served) bot(ch parley.Channel) *parley.Bot {
	if b, ok := s.bots[ch]; ok {
		return b
	}
	return s.bots[parley.Channel{}]
}

// resolveAll reads every secret; all that is missing is said at once.
func resolveAll(cfg Config, bots []parley.Bot, dir string) (*served, error) {
	s := &served{
		channels: map[parley.App][]parley.Channel{},
		bots:     map[parley.Channel]*parley.Bot{{}: silent()},
		accounts: map[parley.Channel]account{},
		paces:    map[parley.Channel]float64{},
		awaits:   map[parley.Channel]time.Duration{},
		threads:  map[parley.Channel]string{},
		tokens:   newTokens(dir),
	}
	byName := map[string]*parley.Bot{}
	for i := range bots {
		byName[bots[i].Name] = &bots[i]
	}
	var errs []error
	read := func(at string, secrets ...Secret) (values []string) {
		for _, secret := range secrets {
			v, err := secret.Resolve(dir)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", at, err))
			}
			values = append(values, v)
		}
		return values
	}
	for _, a := range cfg.Apps {
		app := ingress.App{
			Name: parley.App(a.Name), MetaAppID: a.MetaAppID,
			Secrets:      read("app "+a.Name+": secrets", a.Secrets...),
			VerifyTokens: read("app "+a.Name+": verify_tokens", a.VerifyTokens...),
			Fallback:     a.Fallback.channel(),
		}
		for _, c := range a.Channels {
			ch := c.Channel()
			s.channels[app.Name] = append(s.channels[app.Name], ch)
			if b, ok := byName[c.Bot]; ok {
				s.bots[ch] = b
			}
			s.limit(ch, c)
			if c.Token == "" {
				continue
			}
			s.accounts[ch] = account{secret: app.Secrets[0], url: c.graphURL(cfg.Graph), from: c.Page}
			s.tokens.add(ch, c.Token, read("channel "+ch.String()+": token", c.Token)[0])
		}
		s.apps = append(s.apps, app)
	}
	return s, errors.Join(errs...)
}

// limit notes what of a channel's limits and ways isn't the default.
func (s *served) limit(ch parley.Channel, c ChannelConfig) {
	if c.Pace > 0 {
		s.paces[ch] = c.Pace
	}
	if c.AwaitDelivered > 0 {
		s.awaits[ch] = c.AwaitDelivered
	}
	if c.ThreadApp != "" {
		s.threads[ch] = c.ThreadApp
	}
}

func (c ChannelConfig) graphURL(g Graph) string {
	if c.Graph != "" {
		return c.Graph
	}
	return g.URL
}
