package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// simCommand is a group of commands.
type simCommand struct {
	Meta  simMetaCommand  `cmd:"" help:"Play Meta and its users against any webhook receiver, and judge it from outside."`
	Check simCheckCommand `cmd:"" help:"Find out whether any order of events explains a recorded history."`
}

// simMetaCommand is the simulator by itself. Its flags read no environment: many names
// are those of other commands.
type simMetaCommand struct {
	Target      string        `arg:"" help:"Address of the receiver's webhook, as http://127.0.0.1:3000/webhook."`
	Secret      string        `env:"-" group:"app" default:"simulated-secret" help:"App secret: signs the webhooks (X-Hub-Signature-256)."`
	VerifyToken string        `env:"-" group:"app" default:"simulated-verify-token" help:"Verify token of the handshake, which comes first."`
	NoHandshake bool          `env:"-" group:"app" help:"Leave the handshake out."`
	Token       string        `env:"-" group:"app" placeholder:"TOKEN" help:"Access token that the Graph API demands (else error 190). Without it any token is good."`
	AppID       string        `env:"-" group:"app" name:"app-id" default:"1517776481860111" help:"Id of the app, as in Messenger's echoes."`
	Listen      string        `env:"-" group:"app" default:"127.0.0.1:8765" help:"Where the Graph API listens: what the receiver must use instead of https://graph.facebook.com."`
	Page        string        `env:"-" group:"app" default:"127.0.0.1:8766" help:"Loopback address of the web page with what is going on; off for none."`
	Wait        time.Duration `env:"-" group:"app" default:"10s" help:"How long the receiver may take to be there."`

	Platforms   []string      `env:"-" group:"users" default:"messenger,instagram,whatsapp" enum:"messenger,instagram,whatsapp" help:"Platforms on which users write."`
	Pages       []string      `env:"-" group:"users" name:"page-id" placeholder:"ID,…" help:"Ids of the Messenger Pages, instead of an invented one."`
	Accounts    []string      `env:"-" group:"users" name:"instagram-id" placeholder:"ID,…" help:"Ids of the Instagram accounts."`
	Numbers     []string      `env:"-" group:"users" name:"number-id" placeholder:"ID,…" help:"phone_number_ids of the WhatsApp numbers."`
	Users       int           `env:"-" group:"users" default:"100" help:"Users, divided among the platforms and channels. One WhatsApp user of ten has no phone number."`
	Script      string        `env:"-" group:"users" placeholder:"FILE" type:"existingfile" help:"What users say: a line is a message, an empty line ends a script (docs/simulator.md)."`
	Think       time.Duration `env:"-" group:"users" default:"2s" help:"From a reply to the user's next message, on average."`
	Rate        float64       `env:"-" group:"users" default:"20" help:"Messages per second of all users, at most."`
	Duration    time.Duration `env:"-" group:"users" default:"30s" help:"How long users write; 0 = until Ctrl-C."`
	Impatient   float64       `env:"-" group:"users" default:"0.1" help:"Fraction of messages after which the user doesn't wait for the reply."`
	Seed        uint64        `env:"-" group:"users" help:"Seed of all chances; random if 0."`
	ReplyWithin time.Duration `env:"-" group:"users" default:"10s" help:"For so long a user waits for a reply; then the message counts as dropped, unless it still comes before the end."`
	Replies     int           `env:"-" group:"users" default:"1" help:"Messages that the receiver may send for one of a user's; -1 = any number, then only the same one twice is a sin."`
	Mute        bool          `env:"-" group:"users" help:"The receiver isn't expected to reply at all."`

	Deadline   time.Duration   `env:"-" group:"delivery" default:"5s" help:"Meta's patience with a POST. Without a 200 by then it has failed, and comes again."`
	Duplicates float64         `env:"-" group:"delivery" default:"0.1" help:"Fraction of POSTs whose messages are delivered again although they were acknowledged."`
	Reorder    float64         `env:"-" group:"delivery" default:"0.05" help:"Fraction of messages that come up to 2 s late, and of POSTs that are shuffled."`
	Batch      int             `env:"-" group:"delivery" default:"1" help:"Messages in one POST at most; up to 1000. They are gathered for 100 ms."`
	Forgeries  int             `env:"-" group:"delivery" default:"4" help:"POSTs with a wrong signature or none, which must not be taken; -1 for none."`
	Compress   float64         `env:"-" group:"delivery" default:"60" help:"What Meta does in an hour is done in an hour divided by this: retries, unsubscription, the 24 h window."`
	Retry      []time.Duration `env:"-" group:"delivery" default:"0s,15s,1m,5m,15m,1h,3h,6h" help:"Waits before each further attempt, before they are compressed; the last recurs."`
	Echoes     bool            `env:"-" group:"delivery" default:"true" negatable:"" help:"Messenger and Instagram report what the receiver sent."`
	Statuses   bool            `env:"-" group:"delivery" default:"true" negatable:"" help:"sent, delivered, read."`
	Missing    float64         `env:"-" group:"delivery" name:"statuses-missing" default:"0.1" help:"Fraction of statuses that never come."`
	Shuffled   float64         `env:"-" group:"delivery" name:"statuses-shuffled" default:"0.1" help:"Fraction of sends whose statuses come in any order."`

	GraphFaults string        `env:"-" group:"graph" default:"none" enum:"none,light,heavy" help:"Errors of the Graph API: none, light (2 %) or heavy (20 %). The flags below set single ones."`
	Errors      float64       `env:"-" group:"graph" name:"graph-errors" help:"Fraction of sends answered with a passing error (HTTP 500, code 2)."`
	Throttled   float64       `env:"-" group:"graph" name:"graph-throttled" help:"Fraction of sends answered with 130429 (WhatsApp) or 613."`
	Withheld    float64       `env:"-" group:"graph" name:"graph-withheld" help:"Fraction of sends that are accepted, and the answer is lost."`
	Slow        float64       `env:"-" group:"graph" name:"graph-slow" help:"Fraction of sends that are accepted, and answered after --graph-slow-for."`
	SlowFor     time.Duration `env:"-" group:"graph" name:"graph-slow-for" default:"3s" help:"See --graph-slow."`
	Patience    time.Duration `env:"-" group:"graph" name:"graph-patience" default:"5s" help:"The receiver's own time-out for a send: if an answer took longer, a repeated send is no sin."`
	Hang        float64       `env:"-" group:"graph" name:"graph-hang" help:"Fraction of sends that aren't accepted, nor answered for 30 s."`
	Undelivered float64       `env:"-" group:"graph" name:"graph-undelivered" help:"Fraction of sends that are accepted and never delivered (on WhatsApp with a status failed)."`
	Latency     time.Duration `env:"-" group:"graph" name:"graph-latency" default:"4ms" help:"Usual delay of an answer at most."`
	UserErrors  []string      `env:"-" group:"graph" placeholder:"CODE,…" help:"One user for each: whatever is sent to that user is refused with CODE or CODE-SUBCODE, as 131026,131047,10-2018278. 1-1357046 means that it was sent."`
	Templates   []string      `env:"-" group:"graph" default:"hello_world" help:"WhatsApp templates that there are; others get 132001."`
	Limits      bool          `env:"-" group:"graph" default:"true" negatable:"" help:"Meta's limits: 80/s of a number, 300/s of a Page, pairs, the 24 h window."`

	JSON bool `name:"json" help:"Print the verdict as one JSON object."`
}

// Help is shown by --help above the flags.
func (simMetaCommand) Help() string {
	return `Point the receiver at the Graph API of --listen instead of https://graph.facebook.com,
give it the app secret and the verify token, and start it. Then:

  parley sim meta http://127.0.0.1:3000/webhook
  parley sim meta http://127.0.0.1:3000/webhook --platforms whatsapp --number-id 106540352242922 --users 1000 --rate 100
  parley sim meta http://127.0.0.1:3000/webhook --batch 100 --duplicates 0.5 --reorder 0.3
  parley sim meta http://127.0.0.1:3000/webhook --graph-faults heavy --replies 2

The users write, wait for a reply, think, and write again. At the end each sin of
the receiver is named, with the first case; the exit code is 1 if there is one. The
page at --page shows it live. What only a crash can show isn't seen: whether a message
is acknowledged before it is safe. Kill your receiver meanwhile, start it again, and
look for "dropped".`
}

// Run plays the trial and prints the verdict.
func (c *simMetaCommand) Run(ctx context.Context, sys *system) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	e, err := metatest.NewExaminer(cfg) //nolint:contextcheck // its sockets outlive no call of ours
	if err != nil {
		return err
	}
	c.introduce(sys.errors, e)
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchTrial(watching, e, sys.errors)
	}()
	err = e.Run(ctx)
	stop()
	<-watched
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	r := e.Report()
	if err := c.print(sys.out, r); err != nil {
		return err
	}
	if !r.Clean {
		return exitError{code: exitFailed}
	}
	return nil
}

// endless is as good as for ever.
const endless = 10 * 365 * 24 * time.Hour

func (c *simMetaCommand) config() (cfg metatest.ExaminerConfig, err error) {
	cfg = metatest.ExaminerConfig{
		Target: c.Target, Listen: c.Listen, Page: c.Page, Wait: c.Wait, NoHandshake: c.NoHandshake,
		TrialConfig: metatest.TrialConfig{
			Seed: c.Seed, Pages: c.Pages, Accounts: c.Accounts, Numbers: c.Numbers,
			Users: c.Users, Think: c.Think, Rate: c.Rate, Duration: c.Duration, Impatient: c.Impatient,
			ReplyWithin: c.ReplyWithin, Replies: c.Replies, Listener: c.Mute,
			Secret: c.Secret, VerifyToken: c.VerifyToken, Token: c.Token, AppID: c.AppID,
			Deadline: c.Deadline, Duplicates: c.Duplicates, Reorder: c.Reorder, Batch: c.Batch, Forgeries: c.Forgeries,
			Compress: c.Compress, Retry: c.Retry, NoEchoes: !c.Echoes, NoStatuses: !c.Statuses,
			StatusesMissing: c.Missing, StatusesShuffle: c.Shuffled,
		},
	}
	if c.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	if c.Duration == 0 {
		cfg.Duration = endless
	}
	if c.Page == "off" {
		cfg.Page = ""
	}
	cfg.Mix = c.mix()
	if c.Script != "" {
		file, err := os.ReadFile(c.Script)
		if err != nil {
			return cfg, fmt.Errorf("read the scripts: %w", err)
		}
		if cfg.Scripts, err = metatest.ParseScripts(file); err != nil {
			return cfg, fmt.Errorf("%s: %w", c.Script, err)
		}
	}
	cfg.Graph, err = c.graph()
	return cfg, errors.Join(err, c.fractions())
}

func (c *simMetaCommand) mix() (m metatest.Shares) {
	has := func(p metatest.Platform) float64 {
		if slices.Contains(c.Platforms, string(p)) {
			return 1
		}
		return 0
	}
	return metatest.Shares{Messenger: has(metatest.Messenger), Instagram: has(metatest.Instagram), WhatsApp: has(metatest.WhatsApp)}
}

// graph is how the Graph API behaves: by the name, and by single flags beyond it.
func (c *simMetaCommand) graph() (g metatest.GraphFaults, err error) {
	if g.Faults, err = metatest.FaultsOf(c.GraphFaults); err != nil {
		return g, err
	}
	for to, from := range map[*float64]float64{&g.Transient: c.Errors, &g.Throttled: c.Throttled, &g.Withheld: c.Withheld, &g.Slow: c.Slow} {
		if from > 0 {
			*to = from
		}
	}
	g.SlowFor, g.Patience, g.Latency, g.Hang, g.Undelivered = c.SlowFor, c.Patience, c.Latency, c.Hang, c.Undelivered
	g.Templates, g.NoLimits = c.Templates, !c.Limits
	for _, text := range c.UserErrors {
		code, sub, _ := strings.Cut(text, "-")
		var e metatest.GraphCode
		if e.Code, err = strconv.Atoi(code); err == nil && sub != "" {
			e.Subcode, err = strconv.Atoi(sub)
		}
		if err != nil || e.Code <= 0 {
			return g, fmt.Errorf("--user-errors: %q: want CODE or CODE-SUBCODE, as 131026 or 10-2018278", text)
		}
		g.Users = append(g.Users, e)
	}
	return g, nil
}

// fractions says which flags are none though they should be.
func (c *simMetaCommand) fractions() error {
	var errs []error
	sum := 0.0
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"impatient", c.Impatient},
		{"duplicates", c.Duplicates},
		{"reorder", c.Reorder},
		{"statuses-missing", c.Missing},
		{"statuses-shuffled", c.Shuffled},
		{"graph-errors", c.Errors},
		{"graph-throttled", c.Throttled},
		{"graph-withheld", c.Withheld},
		{"graph-slow", c.Slow},
		{"graph-hang", c.Hang},
		{"graph-undelivered", c.Undelivered},
	} {
		if f.value < 0 || f.value > 1 {
			errs = append(errs, fmt.Errorf("--%s: want a fraction from 0 to 1", f.name))
		}
		if strings.HasPrefix(f.name, "graph-") {
			sum += f.value
		}
	}
	if sum > 1 {
		errs = append(errs, errors.New("--graph-…: the fractions of sends that go wrong are more than 1 together"))
	}
	return errors.Join(errs...)
}

// introduce says what the receiver must be told.
func (c *simMetaCommand) introduce(w io.Writer, e *metatest.Examiner) {
	_, _ = fmt.Fprintf(w, "Graph API  %s (instead of https://graph.facebook.com)\n", e.GraphURL())
	if page := e.PageURL(); page != "" {
		_, _ = fmt.Fprintf(w, "Page       %s\n", page)
	}
	for _, ch := range e.Channels() {
		_, _ = fmt.Fprintf(w, "Channel    %s %s\n", ch.Platform, ch.ID)
	}
	_, _ = fmt.Fprintf(w, "Seed       %d\n\n", e.Config().Seed)
}

// watchTrial shows the progress, until ctx ends.
func watchTrial(ctx context.Context, e *metatest.Examiner, w io.Writer) {
	const every = 5 * time.Second
	for wait(ctx, every); ctx.Err() == nil; wait(ctx, every) {
		r := e.Report()
		_, _ = fmt.Fprintf(w, "%4.0fs  messages %7d  acked %7d  replied %7d  sends %7d  ack p50 %6.1f ms  p99 %7.1f ms  sins %d\n",
			r.Seconds, r.Messages, r.Acked, r.Replied, r.Sends, r.AckMS.P50, r.AckMS.P99, len(r.Sins))
	}
}

func (c *simMetaCommand) print(w io.Writer, r metatest.TrialReport) error {
	if c.JSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, value any, note string) { _, _ = fmt.Fprintf(t, "%s\t%v\t%s\n", name, value, note) }
	line("messages", r.Messages, fmt.Sprintf("written by users; %d acknowledged, %d replied to, %d of these late, %d may still be", r.Acked, r.Replied, r.Late, r.Waiting))
	line("posts", r.Posts, fmt.Sprintf("%d of them repeated for want of a 200; %d messages delivered again on purpose, %d forgeries", r.Retries, r.Duplicates, r.Forgeries))
	line("ack", fmt.Sprintf("%.1f ms", r.AckMS.P50), fmt.Sprintf("p50; p99 %.1f ms, max %.1f ms; %.2f %% above 1 s (Meta asks for a median of 250 ms and less than 1 %% above 1 s)", r.AckMS.P99, r.AckMS.Max, r.Over1s*100))
	line("reply", fmt.Sprintf("%.0f ms", r.ReplyMS.P50), fmt.Sprintf("p50; p99 %.0f ms, max %.0f ms, from a message's first POST to its first reply", r.ReplyMS.P99, r.ReplyMS.Max))
	line("sends", r.Sends, fmt.Sprintf("accepted; %d refused, %d of them for their pace; %d repeated after a lost answer", r.SendsRefused, r.Throttled, r.RepeatsExplained))
	line("receipts", r.Receipts, "echoes and statuses")
	f := r.Faults
	line("faults", f.Transient+f.Throttled+f.Withheld+f.Slow+r.Hung+r.Undelivered, fmt.Sprintf("on purpose: %d passing errors, %d throttled, %d answers withheld, %d slow, %d hung, %d never delivered", f.Transient, f.Throttled, f.Withheld, f.Slow, r.Hung, r.Undelivered))
	for _, s := range r.Sins {
		line("SIN "+s.Name, s.Count, s.Means)
		line("", "", "first: "+s.Example)
	}
	verdict := "no sin seen"
	if !r.Clean {
		verdict = fmt.Sprintf("%d kinds of sins", len(r.Sins))
	}
	line("verdict", verdict, fmt.Sprintf("seed %d, %.0f s", r.Seed, r.Seconds))
	return t.Flush()
}
