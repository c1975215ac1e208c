package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/console"
)

// lettersCommand is what an operator does with dead letters.
type lettersCommand struct {
	List  lettersList  `cmd:"" help:"List dead letters, with their causes, the newest first."`
	Show  lettersShow  `cmd:"" help:"Show one dead letter, with what is in it."`
	Retry lettersRetry `cmd:"" help:"Handle dead events, and send dead messages, after all."`
	Drop  lettersDrop  `cmd:"" help:"Remove dead letters for good."`
}

// letterFilter says which letters are meant: those that all flags given mean.
type letterFilter struct {
	Brand        string        `help:"Only those of this brand."`
	Channel      string        `help:"Only those of this channel: brand/kind/id."`
	Conversation string        `help:"Only those of this conversation: brand/kind/channel/contact, as logs show it."`
	Kind         string        `enum:",event,message" default:"" help:"Only those that were an event, or only those that were a message."`
	Cause        string        `help:"Only those whose cause has this in it, as it is written: 'panic:', '(code 131026)'."`
	OlderThan    time.Duration `help:"Only those that were given up longer ago than this: 30m, 48h."`
}

// query is the filter in the words of the API.
func (f *letterFilter) query(now time.Time) (url.Values, error) {
	if f.OlderThan < 0 { // it would mean all, also to whoever drops
		return nil, fmt.Errorf("--older-than %v: want a time such as 48h, without a sign", f.OlderThan)
	}
	if f.Channel != "" {
		if _, err := parley.ParseChannel(f.Channel); err != nil {
			return nil, err // without asking anybody
		}
	}
	if f.Conversation != "" {
		if _, err := parley.ParseConversation(f.Conversation); err != nil {
			return nil, err
		}
	}
	q := url.Values{}
	for name, value := range map[string]string{"brand": f.Brand, "channel": f.Channel, "conversation": f.Conversation, "kind": f.Kind, "cause": f.Cause} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.OlderThan > 0 {
		q.Set("until", now.Add(-f.OlderThan).UTC().Format(time.RFC3339Nano))
	}
	return q, nil
}

// now is the wall clock of the machine that the command runs on.
func (f *letterFilter) now() time.Time { return time.Now() } //nolint:forbidigo // what a person means by "older than"

type lettersList struct {
	adminPlace
	letterFilter
	Limit  int    `default:"50" help:"How many at most, 1 to 500."`
	Oldest bool   `help:"The oldest first."`
	Cursor string `help:"Go on behind a page: the line under it has the cursor."`
}

// Help is shown by parley deadletters list --help.
func (lettersList) Help() string {
	return `A dead letter is an event that the bot could not handle (it failed, panicked, or never
came to an end), or a message that Meta refused for good. Its conversation went on
without it. The cause is the bot's error, or Meta's own words with its code.

Nothing that people wrote is listed: parley deadletters show ID shows one whole.`
}

// Run prints a page of letters.
func (c lettersList) Run(ctx context.Context, sys *system) error {
	q, err := c.query(c.now())
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	q.Set("limit", strconv.Itoa(c.Limit))
	if c.Oldest {
		q.Set("order", "oldest")
	}
	if c.Cursor != "" {
		q.Set("cursor", c.Cursor)
	}
	page, raw, err := client.letters(ctx, q)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(sys.out, raw)
	}
	return printLetters(sys.out, &page)
}

type lettersShow struct {
	adminPlace
	ID string `arg:"" help:"Of the letter, as the list has it."`
}

// Help is shown by parley deadletters show --help.
func (lettersShow) Help() string {
	return `What is in the letter is the event or the message as it is stored, texts included: mind
who looks over your shoulder.`
}

// Run prints one letter.
func (c lettersShow) Run(ctx context.Context, sys *system) error {
	if _, err := parley.ParseID(c.ID); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var d console.WholeDeadLetter
	raw, err := client.call(ctx, http.MethodGet, letterPath(c.ID), nil, &d)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(sys.out, raw)
	}
	return printLetter(sys.out, &d)
}

// letterChoice is which letters are to be retried or dropped.
type letterChoice struct {
	adminPlace
	letterFilter
	IDs    []string `arg:"" optional:"" name:"id" help:"Of the letters, as the list has them. Without any, all that the flags mean."`
	All    bool     `help:"All letters there are, if no other flag says which."`
	Max    int      `default:"1000" help:"How many at most; the oldest come first. Run it again for the rest."`
	DryRun bool     `help:"Only list what would be done."`
}

const choiceHelp = `
Name letters by their ids, or by flags; --dry-run lists what is meant. Letters are
taken one by one, the oldest first, and only those that were there at the beginning:
what fails again meanwhile stays for the next time. A line each second says how far
it is. Whoever names a letter that somebody else has retried or dropped is told so.

Exit code 1: something was left that should have been done; standard error says what.`

type lettersRetry struct{ letterChoice }

// Help is shown by parley deadletters retry --help.
func (lettersRetry) Help() string {
	return `First see to the cause: a bot that still fails makes a dead letter again.

An event comes back as one that has just come in: late, behind what has happened in its
conversation since. The bot sees that by Turn.Late. A message is sent behind all that
its conversation has decided so far, with its attempts counted anew; a person may read it
days late, so look at what it says before.
` + choiceHelp
}

// Run retries.
func (c lettersRetry) Run(ctx context.Context, sys *system) error {
	return c.run(ctx, sys, letterDeed{method: http.MethodPost, path: "/retry", done: "retried"})
}

type lettersDrop struct{ letterChoice }

// Help is shown by parley deadletters drop --help.
func (lettersDrop) Help() string {
	return `What is dropped is gone: no backup of the node's own has it. The node's log keeps who
dropped which letter, and nothing of what was in it.
` + choiceHelp
}

// Run drops.
func (c lettersDrop) Run(ctx context.Context, sys *system) error {
	return c.run(ctx, sys, letterDeed{method: http.MethodDelete, done: "dropped"})
}

// letterDeed is what is done with each letter.
type letterDeed struct{ method, path, done string }

func (c *letterChoice) run(ctx context.Context, sys *system, deed letterDeed) error {
	chosen, err := c.check()
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	more := false
	if len(c.IDs) == 0 {
		if chosen, more, err = c.find(ctx, client); err != nil {
			return err
		}
	}
	if c.DryRun {
		return c.say(ctx, sys, client, chosen, more)
	}
	w := letterWork{client: client, deed: deed, errors: sys.errors, total: len(chosen)}
	err = w.run(ctx, chosen)
	if c.JSON {
		err = errors.Join(json.NewEncoder(sys.out).Encode(w.count(more)), err)
	} else {
		w.progress()
		w.rest(more, c.Max)
	}
	return err
}

// check says what is wrong with the choice, and which letters it names.
func (c *letterChoice) check() (named []console.DeadLetter, _ error) {
	filtered := c.letterFilter != letterFilter{}
	switch {
	case len(c.IDs) > 0 && (filtered || c.All):
		return nil, errors.New("ids and flags that say which letters don't go together")
	case len(c.IDs) == 0 && !filtered && !c.All:
		return nil, errors.New("which ones? Name ids, or flags such as --channel and --cause; --all means all there are")
	case c.Max < 1:
		return nil, fmt.Errorf("--max %d: want 1 at least", c.Max)
	}
	for _, id := range c.IDs {
		if _, err := parley.ParseID(id); err != nil {
			return nil, err
		}
		named = append(named, console.DeadLetter{ID: id})
	}
	return named, nil
}

// find lists the letters that are meant, the oldest first, up to Max of them.
func (c *letterChoice) find(ctx context.Context, client *adminClient) (all []console.DeadLetter, more bool, err error) {
	q, err := c.query(c.now())
	if err != nil {
		return nil, false, err
	}
	q.Set("order", "oldest")
	for {
		q.Set("limit", strconv.Itoa(min(parley.MaxDeadPage, c.Max-len(all))))
		page, _, err := client.letters(ctx, q)
		if err != nil {
			return nil, false, err
		}
		all = append(all, page.DeadLetters...)
		if page.Next == "" || len(page.DeadLetters) == 0 || len(all) >= c.Max {
			return all, page.Next != "", nil
		}
		q.Set("cursor", page.Next)
	}
}

// say lists what would be done. Letters that were named are looked up first.
func (c *letterChoice) say(ctx context.Context, sys *system, client *adminClient, chosen []console.DeadLetter, more bool) error {
	page := letterPage{DeadLetters: chosen}
	for i := range c.IDs {
		var d console.WholeDeadLetter
		if _, err := client.call(ctx, http.MethodGet, letterPath(c.IDs[i]), nil, &d); err != nil {
			return fmt.Errorf("%s: %w", c.IDs[i], err)
		}
		page.DeadLetters[i] = d.DeadLetter
	}
	if c.JSON {
		return json.NewEncoder(sys.out).Encode(page)
	}
	err := printLetters(sys.out, &page)
	_, _ = fmt.Fprintf(sys.errors, "%d letters; nothing was done\n", len(chosen))
	if more {
		_, _ = fmt.Fprintf(sys.errors, "there are more than these %d (--max)\n", c.Max)
	}
	return err
}

// letterPage is a page of the list.
type letterPage struct {
	DeadLetters []console.DeadLetter `json:"dead_letters"`
	Next        string               `json:"next,omitempty"`
}

func (c *adminClient) letters(ctx context.Context, q url.Values) (page letterPage, raw json.RawMessage, err error) {
	raw, err = c.call(ctx, http.MethodGet, "/api/deadletters?"+q.Encode(), nil, &page)
	return page, raw, err
}

func letterPath(id string) string { return "/api/deadletters/" + id }

// letterWork does a deed with many letters.
type letterWork struct {
	client *adminClient
	deed   letterDeed
	errors io.Writer

	total, done, gone, failed int
}

// letterCount is how it ended.
type letterCount struct {
	Chosen int  `json:"chosen"`
	Done   int  `json:"done"`
	Gone   int  `json:"gone"`   // somebody else was faster
	Failed int  `json:"failed"` // can't be retried by this program, or has been in the way of a merge
	More   bool `json:"more"`   // there were more than --max
}

func (w *letterWork) count(more bool) letterCount {
	return letterCount{Chosen: w.total, Done: w.done, Gone: w.gone, Failed: w.failed, More: more}
}

const progressEvery = time.Second

// run does it. What is wrong with one letter is told, and the others go on; what is
// wrong with the node ends it.
func (w *letterWork) run(ctx context.Context, chosen []console.DeadLetter) error {
	tick := time.NewTicker(progressEvery) //nolint:forbidigo // the pace of what a person reads
	defer tick.Stop()
	for i := range chosen {
		_, err := w.client.call(ctx, w.deed.method, letterPath(chosen[i].ID)+w.deed.path, nil, nil)
		var refused *refusedError
		switch known := errors.As(err, &refused); {
		case err == nil:
			w.done++
		case known && refused.status == http.StatusNotFound:
			w.gone++
			_, _ = fmt.Fprintf(w.errors, "%s: %v\n", chosen[i].ID, err)
		case known && refused.status == http.StatusConflict:
			w.failed++
			_, _ = fmt.Fprintf(w.errors, "%s: %v\n", chosen[i].ID, err)
		default:
			return fmt.Errorf("%d of %d %s: %w", w.done, w.total, w.deed.done, err)
		}
		select {
		case <-tick.C:
			w.progress()
		default:
		}
	}
	if w.failed+w.gone > 0 {
		return fmt.Errorf("%d of %d letters were not %s", w.failed+w.gone, w.total, w.deed.done)
	}
	return nil
}

func (w *letterWork) progress() {
	_, _ = fmt.Fprintf(w.errors, "%d of %d %s\n", w.done, w.total, w.deed.done)
}

func (w *letterWork) rest(more bool, limit int) {
	if more {
		_, _ = fmt.Fprintf(w.errors, "there are more than these %d (--max): run it again\n", limit)
	}
}

// printLetters prints two lines for each: what it is, and why it is here.
func printLetters(w io.Writer, page *letterPage) error {
	if len(page.DeadLetters) == 0 {
		_, err := fmt.Fprintln(w, "no dead letters")
		return err
	}
	for i := range page.DeadLetters {
		d := &page.DeadLetters[i]
		_, err := fmt.Fprintf(w, "%s  %s  %s  %s\n%s\n", d.ID, d.Time.UTC().Format("2006-01-02 15:04:05"), sort(d), printable(d.Conversation), fold(printable(d.Cause), "    "))
		if err != nil {
			return err
		}
	}
	if page.Next != "" {
		_, err := fmt.Fprintf(w, "\nthere are more: --cursor %s\n", page.Next)
		return err
	}
	return nil
}

// sort is what a letter was, in few words.
func sort(d *console.DeadLetter) string {
	if d.What == "" {
		return string(d.Kind)
	}
	return string(d.Kind) + ":" + d.What
}

// printable keeps what others wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func printLetter(w io.Writer, d *console.WholeDeadLetter) error {
	t := newTable(w)
	_, _ = fmt.Fprintf(t, "id\t%s\n", d.ID)
	_, _ = fmt.Fprintf(t, "time\t%s\n", d.Time.UTC().Format(time.RFC3339Nano))
	_, _ = fmt.Fprintf(t, "was\t%s\n", sort(&d.DeadLetter))
	_, _ = fmt.Fprintf(t, "conversation\t%s\n", printable(d.Conversation))
	if d.Seq != 0 {
		_, _ = fmt.Fprintf(t, "number\t%d\n", d.Seq)
	}
	_, _ = fmt.Fprintf(t, "cause\t%s\n\n", printable(d.Cause))
	if err := t.Flush(); err != nil {
		return err
	}
	return printJSON(w, d.Data)
}
