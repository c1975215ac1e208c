package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/parleychat/parley/console"
	"github.com/parleychat/parley/node/dev"
)

type devCommand struct {
	Package   string `arg:"" optional:"" type:"existingdir" help:"Folder of your bot's program, whose main function calls node.Main: it is built, and built again whenever you save. Without it the bots of this program serve."`
	Bot       string `env:"-" help:"Name of the bot that serves; the program's first if empty. The page has a switch."`
	Listen    string `env:"-" placeholder:"ADDRESS" help:"Where the page is, on a loopback address. Default 127.0.0.1:8700, or another port if that is taken."`
	Dir       string `env:"-" type:"path" help:"Folder for the chats and the node's store, kept at the end: the next run goes on there. Without it, a temporary one."`
	BotURL    string `env:"-" placeholder:"URL" help:"Let a bot over HTTP serve (docs/http-bots.md); it may be on this machine."`
	BotSecret string `env:"-" placeholder:"PLACE" help:"Where the secret is found that its requests are signed with: env:NAME or file:PATH. Without it that is parley-dev."`
	Services  string `env:"-" type:"existingfile" placeholder:"FILE" help:"A node's configuration, of which the services are taken that your bot may call (docs/calls.md). What is called is really called."`
	Expose    bool   `env:"-" help:"Let --listen be an address that others reach. Whoever does can chat, stop the node, and read all chats."`
}

// Help is shown by --help above the flags.
func (devCommand) Help() string {
	return `Nothing to configure, and nothing leaves this machine: the node, its store, Meta and
the users' phones are all simulated or local.

  parley dev                    chat with the example bot; open the address that is printed
  parley dev --bot greeter      with another one
  parley dev ./mybot            build your bot, and build it anew whenever you save a file
  parley dev ./mybot --dir dev  keep chats and states in ./dev for the next time
  parley dev ./mybot --services parley.yaml   with the services that it calls
  parley dev --bot-url http://127.0.0.1:8070/   a bot in any language, over HTTP

In the page you are Ada on Messenger, Bruno on Instagram, Chen on WhatsApp, or whom you
add. Beside the chat you see what the node has of it: state, timers, what waits, history.
Jump ahead in time and timers ring; have everything delivered twice or in another order,
answers lost, the node killed: the conversation must not notice.

A bot's program is this, in a folder of its own:

  package main

  import (
  	"github.com/parleychat/parley"
  	"github.com/parleychat/parley/node"
  )

  func main() {
  	node.Main(parley.Bot{Name: "mybot", Behavior: parley.BehaviorFunc(answer)})
  }

  func answer(t *parley.Turn) error {
  	if m, ok := t.Input().(parley.Message); ok {
  		t.Say("You said: " + m.Text)
  	}
  	return nil
  }`
}

const (
	devListen    = "127.0.0.1:8700"
	devDoubtful  = 4 * time.Second // a person waits for what is done about a lost answer
	devReadFor   = 10 * time.Second
	devTokenSize = 24 // bytes
)

// Run serves the page until the process is told to stop.
func (c *devCommand) Run(ctx context.Context, sys *system) (err error) {
	if c.BotURL != "" {
		if c.Package != "" || c.Bot != "" {
			return errors.New("--bot-url names the bot that serves: leave out --bot, and the folder of a program")
		}
		c.Bot = botOverHTTP
	} else if c.Package == "" { // else only the program that is built knows
		if _, err := servingBot(c.Bot, sys.bots); err != nil {
			return err
		}
	}
	ln, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }() // closed already if it was served
	dir, cleanUp, err := c.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	url := "http://" + ln.Addr().String()
	token := devToken()
	stage, err := c.stage(dir, url) //nolint:contextcheck // its socket outlives no call of ours
	if err != nil {
		return err
	}
	err = c.configure(dir, stage.Business(), token)
	if err != nil {
		return errors.Join(err, stage.Close())
	}
	c.introduce(sys.errors, url, dir)
	return servePage(ctx, ln, stage, token)
}

// listen takes the page's address. The default one may be taken: then any port does.
func (c *devCommand) listen(ctx context.Context) (net.Listener, error) {
	address := cmp.Or(c.Listen, devListen)
	if !onLoopback(address) && !c.Expose {
		return nil, fmt.Errorf("--listen %s: others might reach that, and whoever does can read and do everything: name a loopback address, or add --expose", address)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) && c.Listen == "" {
		ln, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the page: %w", err)
	}
	return ln, nil
}

// folder is where everything is kept, and what is to be done with it at the end.
func (c *devCommand) folder() (dir string, cleanUp func() error, err error) {
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, ownerOnly); err != nil {
			return "", nil, fmt.Errorf("make the folder: %w", err)
		}
		return c.Dir, func() error { return nil }, nil
	}
	if dir, err = os.MkdirTemp("", "parley-dev-"); err != nil {
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

func (c *devCommand) stage(dir, url string) (*dev.Stage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cfg := dev.Config{Dir: dir, Page: console.Page(), Runner: dev.RunnerConfig{
		Program: self, Bot: c.Bot, Attr: childAttributes(),
		// What the environment sets for a real node is not for this one.
		Env: slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, envPrefix+"_") }),
		Play: func(bot, user, kind string) []string {
			return []string{"dev-play", "--bot", bot, "--user", user, "--kind", kind}
		},
		Args: func(bot string, offset time.Duration) []string {
			return []string{"dev-node", "--config", filepath.Join(dir, devConfigFile), "--bot", bot, "--offset", offset.String()}
		},
	}}
	if c.Package != "" {
		cfg.Runner.Program = ""
		cfg.Builder = &dev.Builder{Package: c.Package, Dir: dir}
	}
	return dev.New(cfg, url, time.Now()) //nolint:forbidigo // people's time
}

// services are those that bots may call. Their secrets are found where the file says,
// which isn't the folder of the node's configuration.
func (c *devCommand) services() ([]ServiceConfig, error) {
	if c.Services == "" {
		return nil, nil
	}
	cfg, err := parseConfig(c.Services)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Services {
		for name, secret := range cfg.Services[i].Headers {
			path, isFile := strings.CutPrefix(string(secret), "file:")
			if isFile && !filepath.IsAbs(path) {
				if path, err = filepath.Abs(filepath.Join(filepath.Dir(c.Services), path)); err != nil {
					return nil, fmt.Errorf("secret of service %q: %w", cfg.Services[i].Name, err)
				}
				cfg.Services[i].Headers[name] = Secret("file:" + path)
			}
		}
	}
	return cfg.Services, nil
}

func devToken() string {
	var b [devTokenSize]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return hex.EncodeToString(b[:])
}

const devConfigFile = "parley.yaml"

// devSecret signs what a bot over HTTP is posted, if nobody names another one: a bot in
// development may be without the check, and with this word it can have it.
const devSecret = "parley-dev"

// secret is what a bot over HTTP tells its requests by. It is found here: what the
// environment sets for Parley, the node doesn't see.
func (c *devCommand) secret() (string, error) {
	if c.BotSecret == "" {
		return devSecret, nil
	}
	place, err := placeOf(c.BotSecret)
	if err != nil {
		return "", fmt.Errorf("--bot-secret: %w", err)
	}
	return place.Resolve("")
}

// configure writes the configuration of the node, and its secrets.
func (c *devCommand) configure(dir string, b dev.Business, token string) error {
	services, err := c.services()
	if err != nil {
		return err
	}
	secret, err := c.secret()
	if err != nil {
		return err
	}
	var bots []HTTPBotConfig
	if c.BotURL != "" {
		bots = []HTTPBotConfig{{Name: botOverHTTP, URL: c.BotURL, Secret: "file:bot", AllowPrivate: true}}
	}
	app := AppConfig{Name: b.App, MetaAppID: b.AppID, Secrets: []Secret{"file:secret"}, VerifyTokens: []Secret{"file:verify"}}
	secrets := map[string]string{"secret": b.Secret, "verify": b.VerifyToken, "admin": token, "bot": secret}
	for _, ch := range b.Channels {
		name := "token-" + ch.ID
		secrets[name] = ch.Token
		app.Channels = append(app.Channels, ChannelConfig{Brand: string(dev.Brand), Kind: string(ch.Platform), ID: ch.ID, Token: Secret("file:" + name)})
	}
	for name, value := range secrets {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), secretMode); err != nil {
			return fmt.Errorf("write the node's secrets: %w", err)
		}
	}
	file, err := yaml.Marshal(Config{
		Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Data: filepath.Join(dir, "data"), AdminToken: "file:admin",
		Graph: Graph{URL: b.GraphURL}, DoubtfulWait: devDoubtful, Apps: []AppConfig{app}, Services: services, HTTPBots: bots,
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, devConfigFile), file, secretMode)
	}
	if err != nil {
		return fmt.Errorf("write the node's configuration: %w", err)
	}
	return nil
}

func (c *devCommand) introduce(w io.Writer, url, dir string) {
	kept := "removed at the end; --dir FOLDER keeps it"
	if c.Dir != "" {
		kept = "kept"
	}
	_, _ = fmt.Fprintf(w, "Chat      %s\nFolder    %s (%s)\nStop      Ctrl-C\n", url, dir, kept)
}

// servePage serves the page while the stage plays.
func servePage(ctx context.Context, ln net.Listener, stage *dev.Stage, token string) error {
	playing, stop := context.WithCancel(ctx)
	defer stop()
	srv := &http.Server{
		Handler: stage.Handler(token), ReadHeaderTimeout: devReadFor,
		BaseContext: func(net.Listener) context.Context { return playing }, // streams of news end with it
	}
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(ln)
		stop()
	}()
	err := stage.Run(playing)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminDrainTimeout)
	defer cancel()
	_ = srv.Shutdown(limit) // what is still open after this is cut off
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve the page: %w", served))
	}
	return err
}
