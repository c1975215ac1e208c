package node

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/audit"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/cluster"
)

// Config is the configuration of a node, as the YAML file has it. Unknown keys
// are errors, shown with their line and column.
type Config struct {
	Listen string `yaml:"listen"` // address for webhooks; default 127.0.0.1:8080
	Admin  string `yaml:"admin"`  // address of health and metrics; default 127.0.0.1:9090
	Data   string `yaml:"data"`   // directory of the embedded store, and of what a node notes of itself; default parley-data

	Store    string   `yaml:"store"` // embedded or postgres; default: postgres if database.url is set, otherwise embedded
	Database Database `yaml:"database"`
	Spool    Spool    `yaml:"spool"`

	// Name is the node's for people, and part of what it is known by to the others;
	// default: the host's.
	Name       string         `yaml:"name"`
	Roles      []cluster.Role `yaml:"roles"`       // ingress, actors, egress, console; default all
	AdminToken Secret         `yaml:"admin_token"` // of those who may use the admin API
	DrainFor   time.Duration  `yaml:"drain_for"`   // deadline of a drain; default 30s
	Cluster    ClusterConfig  `yaml:"cluster"`

	Graph        Graph         `yaml:"graph"`
	DoubtfulWait time.Duration `yaml:"doubtful_wait"` // before a message whose answer was lost is sent again; default 30s
	// DoubtfulPolicy is what becomes of such a message: resend, the default, or
	// give_up, which tells the bot.
	DoubtfulPolicy string        `yaml:"doubtful_policy"`
	HistoryFor     time.Duration `yaml:"history_for"`   // default 720h
	AuditEvery     time.Duration `yaml:"audit_every"`   // between two looks of the audit; default 15s
	ReserveBytes   uint64        `yaml:"reserve_bytes"` // disk space kept free; default of the store

	Apps     []AppConfig     `yaml:"apps"`
	Services []ServiceConfig `yaml:"services"`  // that bots may call
	HTTPBots []HTTPBotConfig `yaml:"http_bots"` // that are served by a URL; channels name them like others
}

// Graph says where Meta's Graph API is.
type Graph struct {
	URL     string `yaml:"url"`     // default https://graph.facebook.com
	Version string `yaml:"version"` // default v26.0
}

// ClusterConfig says how the node finds others and talks to them. Without Bind it
// is alone.
type ClusterConfig struct {
	Bind              string    `yaml:"bind"`               // address of gossip, UDP and TCP
	Advertise         string    `yaml:"advertise"`          // where others reach it, if not there
	Messages          string    `yaml:"messages"`           // address for messages between nodes
	AdvertiseMessages string    `yaml:"advertise_messages"` // where others reach it, if not there
	Join              []string  `yaml:"join"`               // gossip addresses, or names of many, to begin with
	Keys              []Secret  `yaml:"keys"`               // of gossip: 32 bytes in base64; the first encrypts, all are accepted
	TLS               TLSConfig `yaml:"tls"`                // of messages
}

// TLSConfig names files in PEM.
type TLSConfig struct {
	Certificate string `yaml:"certificate"` // this node's, of the authority
	Key         string `yaml:"key"`
	Authority   string `yaml:"authority"` // certificate of an authority that signs the nodes of this cluster and nothing else
}

// clustered reports whether there may be other nodes.
func (c Config) clustered() bool { return c.Cluster.Bind != "" }

// does reports whether the node has a role.
func (c Config) does(r cluster.Role) bool { return len(c.Roles) == 0 || slices.Contains(c.Roles, r) }

// address is what the others know the node by.
func (c ClusterConfig) address() string { return cmp.Or(c.AdvertiseMessages, c.Messages) }

// Database says which PostgreSQL database keeps everything, if store is postgres.
type Database struct {
	URL            Secret        `yaml:"url"`             // where the connection string is found: it holds a password
	Connections    int           `yaml:"connections"`     // for turns and sends, beside two for the entrance; default 8
	ConnectTimeout time.Duration `yaml:"connect_timeout"` // of one attempt to connect; default 2s
}

// Spool says where events wait while PostgreSQL doesn't answer.
type Spool struct {
	Dir      string `yaml:"dir"`       // default: spool in data
	MaxBytes int64  `yaml:"max_bytes"` // default 1 GiB
}

// AppConfig is a Meta app: its webhooks come to /webhooks/{name}.
type AppConfig struct {
	Name         string          `yaml:"name"`
	MetaAppID    string          `yaml:"meta_app_id"` // Meta's number of the app: tells our own echoes from others'
	Secrets      []Secret        `yaml:"secrets"`     // app secrets: the current, the next, Instagram's own
	VerifyTokens []Secret        `yaml:"verify_tokens"`
	Channels     []ChannelConfig `yaml:"channels"`
	Fallback     *Fallback       `yaml:"fallback"`
}

// Fallback is the channel that takes the events of objects other than page,
// instagram and whatsapp_business_account. Without one they are quarantined. If
// it is not one of the channels, its events are kept in the history and nobody
// answers.
type Fallback struct {
	Brand string `yaml:"brand"`
	Kind  string `yaml:"kind"`
	ID    string `yaml:"id"` // a name of your own, or the id of one of the channels
}

// channel is the fallback's identity, the zero Channel if there is none.
func (f *Fallback) channel() parley.Channel {
	if f == nil {
		return parley.Channel{}
	}
	return parley.Channel{Brand: parley.Brand(f.Brand), Kind: parley.ChannelKind(f.Kind), ID: f.ID}
}

// ChannelConfig is a channel that is served through an app.
type ChannelConfig struct {
	Brand string `yaml:"brand"`
	Kind  string `yaml:"kind"` // messenger, instagram, whatsapp, whatsapp_account
	ID    string `yaml:"id"`   // of the Page, the Instagram account, the phone number, the WhatsApp account
	Token Secret `yaml:"token"`
	Bot   string `yaml:"bot"`       // name of the bot that serves it; without one nobody answers
	Page  string `yaml:"page"`      // for an Instagram account that is reached through a Page: the Page's id
	Graph string `yaml:"graph_url"` // another Graph host, such as https://graph.instagram.com
	// Pace is how many messages a second Meta takes of the channel; default: what
	// Meta's pages say of its kind, see egress.PaceOf.
	Pace float64 `yaml:"pace"`
	// AwaitDelivered is how long a message waits at most for the one before it, in
	// its conversation, to be delivered; 0: it doesn't.
	AwaitDelivered time.Duration `yaml:"await_delivered"`
	// ThreadApp is Meta's number of the app that gets the thread when the bot gives the
	// word away, such as the Page Inbox's; empty: threads aren't passed.
	ThreadApp string `yaml:"thread_app"`
}

// Channel is the channel's identity.
func (c ChannelConfig) Channel() parley.Channel {
	return parley.Channel{Brand: parley.Brand(c.Brand), Kind: parley.ChannelKind(c.Kind), ID: c.ID}
}

// Secret is where a secret is found: env:NAME or file:PATH. A secret itself is
// refused in a configuration file.
type Secret string

// errLiteral never repeats what was written: it may be the secret.
var errLiteral = errors.New("a secret is written as env:NAME or file:PATH, not as the secret itself")

// Resolve reads the secret. The error names the place, never the value.
func (s Secret) Resolve(dir string) (string, error) {
	switch {
	case strings.HasPrefix(string(s), "env:"):
		name := string(s[4:])
		v := os.Getenv(name)
		if v == "" {
			return "", fmt.Errorf("secret env:%s: the environment variable is not set", name)
		}
		return v, nil
	case strings.HasPrefix(string(s), "file:"):
		path := string(s[5:])
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("secret file: %w", err)
		}
		v := strings.TrimSpace(string(b))
		if v == "" {
			return "", fmt.Errorf("secret file:%s: the file is empty", path)
		}
		return v, nil
	}
	return "", errLiteral
}

// check says whether the secret is a place.
func (s Secret) check() error {
	if strings.HasPrefix(string(s), "env:") || strings.HasPrefix(string(s), "file:") {
		return nil
	}
	return errLiteral
}

// ReadConfig reads a file strictly and checks it. Errors of form have line and
// column, but no excerpt: a secret that stands there by mistake would be in it.
func ReadConfig(path string, bots []parley.Bot) (Config, error) {
	cfg, err := parseConfig(path)
	if err != nil {
		return Config{}, err
	}
	if err := cfg.Validate(bots); err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return cfg, nil
}

// parseConfig reads a file strictly, without a look at what it means: for
// commands that need a part of it.
func parseConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	var cfg Config
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&cfg); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("configuration %s:\n%s", path, misform(b, err))
	}
	return cfg.withDefaults(), nil
}

// misform says what is wrong with the form of a file, and where.
func misform(file []byte, err error) string {
	if _, placed := errors.AsType[yaml.Error](err); placed {
		return yaml.FormatError(err, false, false)
	}
	// The library doesn't say where a duration is that it can't read.
	keys := []string{"doubtful_wait", "history_for", "drain_for", "audit_every", "database.connect_timeout"}
	for i := range callout.MaxServices {
		for _, key := range []string{"timeout", "within", "breaker.open_for"} {
			keys = append(keys, fmt.Sprintf("services[%d].%s", i, key))
		}
	}
	for i := range callout.MaxServices {
		for _, key := range []string{"timeout", "within"} {
			keys = append(keys, fmt.Sprintf("http_bots[%d].%s", i, key))
		}
	}
	for _, key := range keys {
		path, notPath := yaml.PathString("$." + key)
		if notPath != nil {
			continue
		}
		node, missing := path.ReadNode(bytes.NewReader(file))
		if missing != nil || node == nil {
			continue
		}
		at := node.GetToken()
		if _, wrong := time.ParseDuration(at.Value); wrong != nil {
			return fmt.Sprintf("[%d:%d] %s: want a duration such as 30s", at.Position.Line, at.Position.Column, key)
		}
	}
	return err.Error()
}

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:8080")
	c.Admin = cmp.Or(c.Admin, "127.0.0.1:9090")
	c.Data = cmp.Or(c.Data, "parley-data")
	c.Store = c.kind()
	c.Graph.URL = cmp.Or(c.Graph.URL, "https://graph.facebook.com")
	c.Graph.Version = cmp.Or(c.Graph.Version, "v26.0")
	c.DoubtfulWait = cmp.Or(c.DoubtfulWait, 30*time.Second)
	c.DoubtfulPolicy = cmp.Or(c.DoubtfulPolicy, doubtfulResend)
	c.HistoryFor = cmp.Or(c.HistoryFor, parley.HistoryFor)
	c.DrainFor = cmp.Or(c.DrainFor, 30*time.Second)
	c.AuditEvery = cmp.Or(c.AuditEvery, audit.DefaultEvery)
	return c
}

// The values of doubtful_policy.
const (
	doubtfulResend = "resend"
	doubtfulGiveUp = "give_up"
)

// maxAwaitDelivered is beyond what anybody waits for a phone to be switched on.
const maxAwaitDelivered = 10 * time.Minute

// maxPace is beyond what Meta takes of any channel, in a second.
const maxPace = 100_000

// maxConnections is beyond what a server of PostgreSQL is given.
const maxConnections = 1000

// minDoubtfulWait leaves time for a lease and a call within it: see sendTimes.
const minDoubtfulWait = 100 * time.Millisecond

// Validate says everything that is wrong with c at once.
func (c Config) Validate(bots []parley.Bot) error {
	bots = c.withHTTPBots(bots)
	k := check{bots: bots, names: map[string]bool{}, entrances: map[string]bool{}, served: map[parley.Channel]bool{}}
	k.checkBots()
	if len(c.Apps) == 0 {
		k.complain("apps: at least one app is needed")
	}
	if c.HistoryFor < 0 {
		k.complain("history_for: a duration can't be negative")
	}
	if c.AuditEvery < 0 {
		k.complain("audit_every: a duration can't be negative")
	}
	if c.DoubtfulWait < minDoubtfulWait {
		k.complain("doubtful_wait: at least %s", minDoubtfulWait)
	}
	if p := c.DoubtfulPolicy; p != "" && p != doubtfulResend && p != doubtfulGiveUp {
		k.complain("doubtful_policy: %q is neither resend nor give_up", c.DoubtfulPolicy)
	}
	k.store(c)
	k.cluster(c)
	k.services(c.Services)
	k.httpBots(c.HTTPBots)
	for i := range c.Apps {
		k.app(fmt.Sprintf("apps[%d] %q", i, c.Apps[i].Name), &c.Apps[i])
	}
	return errors.Join(k.errs...)
}

// check gathers what is wrong with a configuration.
type check struct {
	bots      []parley.Bot
	errs      []error
	names     map[string]bool // of apps
	entrances map[string]bool // what an app calls its channels
	served    map[parley.Channel]bool
}

func (k *check) complain(format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf(format, args...))
}

// checkBots looks at the program's own bots: a mistake of its developer.
func (k *check) checkBots() {
	seen := map[string]bool{}
	for _, b := range k.bots {
		if b.Name == "" || b.Behavior == nil || seen[b.Name] {
			k.complain("bot %q of this program: a bot needs a name of its own and a Behavior", b.Name)
		}
		seen[b.Name] = true
		if err := b.Validate(); err != nil {
			k.errs = append(k.errs, err)
		}
	}
	if _, err := readingOf(k.bots); err != nil {
		k.errs = append(k.errs, err)
	}
}

func (k *check) store(c Config) {
	switch c.kind() {
	case storeEmbedded:
	case storePostgres:
		if c.Database.URL == "" {
			k.complain("database.url: store postgres needs it, as env:NAME or file:PATH")
		} else if err := c.Database.URL.check(); err != nil {
			k.complain("database.url: %w", err)
		}
	default:
		k.complain("store: %q is neither embedded nor postgres", c.Store)
	}
	if n := c.Database.Connections; n < 0 || n > maxConnections {
		k.complain("database.connections: between 1 and %d", maxConnections)
	}
	if c.Spool.MaxBytes < 0 {
		k.complain("spool.max_bytes: a size can't be negative")
	}
	if c.Database.ConnectTimeout < 0 {
		k.complain("database.connect_timeout: a duration can't be negative")
	}
}

func (k *check) cluster(c Config) {
	for _, r := range c.Roles {
		if !slices.Contains(cluster.Roles(), r) {
			k.complain("roles: %q is none of ingress, actors, egress, console", r)
		}
	}
	if c.AdminToken != "" {
		if err := c.AdminToken.check(); err != nil {
			k.complain("admin_token: %w", err)
		}
	}
	if c.DrainFor < 0 {
		k.complain("drain_for: a duration can't be negative")
	}
	if !c.clustered() {
		if len(c.Roles) > 0 && len(c.Roles) < len(cluster.Roles()) {
			k.complain("roles: a node without others (cluster.bind) needs all of them")
		}
		return
	}
	if c.kind() != storePostgres {
		k.complain("cluster: nodes that work together need store postgres")
	}
	k.endpoints(c.Cluster)
	k.between(c.Cluster)
}

// between checks what protects the nodes' words to each other.
func (k *check) between(c ClusterConfig) {
	for i, secret := range c.Keys {
		if err := secret.check(); err != nil {
			k.complain("cluster.keys[%d]: %w", i, err)
		}
	}
	t := c.TLS
	switch set := t != (TLSConfig{}); {
	case set && (t.Certificate == "" || t.Key == "" || t.Authority == ""):
		k.complain("cluster.tls: certificate, key and authority are needed together")
	case !set && !onLoopback(c.Messages):
		k.complain("cluster.tls: without it, messages must be on a loopback address: whoever reaches the port could speak for a node")
	}
	if len(c.Keys) == 0 && !onLoopback(c.Bind) {
		k.complain("cluster.keys: without them, bind must be on a loopback address: whoever reaches the port would be a member")
	}
}

func (k *check) endpoints(c ClusterConfig) {
	for name, address := range map[string]string{"bind": c.Bind, "messages": c.Messages} {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			k.complain("cluster.%s: %q: want host:port", name, address)
		}
	}
	host, port, err := net.SplitHostPort(c.address())
	if ip := net.ParseIP(host); err != nil || host == "" || port == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		k.complain("cluster.messages: %q: the others need one address and port to reach; name it as cluster.advertise_messages", c.address())
	}
}

// onLoopback reports whether an address is of this machine only.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (k *check) app(at string, app *AppConfig) {
	if app.Name == "" || strings.ContainsAny(app.Name, "/?# ") || k.names[app.Name] {
		k.complain("%s: the name must be unique and fit into the path /webhooks/{name}", at)
	}
	k.names[app.Name] = true
	if len(app.Secrets) == 0 || len(app.VerifyTokens) == 0 {
		k.complain("%s: at least one of secrets and of verify_tokens is needed", at)
	}
	if app.Fallback != nil {
		if err := app.Fallback.channel().Validate(); err != nil {
			k.complain("%s: fallback: %w", at, err)
		}
	}
	for i, ch := range app.Channels {
		if err := ch.validate(k.bots); err != nil {
			k.complain("%s: channels[%d]: %w", at, i, err)
		}
		entrance := app.Name + "/" + ch.Kind + "/" + ch.ID
		if k.served[ch.Channel()] || k.entrances[entrance] {
			k.complain("%s: channels[%d]: %s %s is there already", at, i, ch.Kind, ch.ID)
		}
		k.served[ch.Channel()], k.entrances[entrance] = true, true
	}
}

func (c ChannelConfig) validate(bots []parley.Bot) error {
	if err := c.Channel().Validate(); err != nil {
		return err
	}
	if c.Token == "" && c.Channel().Kind != parley.WhatsAppAccount {
		return errors.New("token is needed to answer")
	}
	if c.AwaitDelivered < 0 || c.AwaitDelivered > maxAwaitDelivered || c.AwaitDelivered > 0 && c.Channel().Kind != parley.WhatsApp {
		return fmt.Errorf("await_delivered: of a whatsapp channel, at most %s", maxAwaitDelivered)
	}
	if c.ThreadApp != "" && (!parley.ValidApp(c.ThreadApp) || c.Kind != string(parley.Messenger) && c.Kind != string(parley.Instagram)) {
		return errors.New("thread_app: Meta's number of an app, of a messenger or instagram channel")
	}
	if !(c.Pace >= 0 && c.Pace <= maxPace) {
		return fmt.Errorf("pace: between 0, the default, and %d messages a second", maxPace)
	}
	if c.Bot == "" {
		return nil
	}
	if !slices.ContainsFunc(bots, func(b parley.Bot) bool { return b.Name == c.Bot }) {
		return fmt.Errorf("bot %q is not among those of this program: %s", c.Bot, botNames(bots))
	}
	return nil
}

func botNames(bots []parley.Bot) string {
	names := make([]string, len(bots))
	for i, b := range bots {
		names[i] = b.Name
	}
	return strings.Join(names, ", ")
}
