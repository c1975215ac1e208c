package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// demoUpgraded is the bot of two versions that the demonstration of an upgrade has.
// It speaks the protocol of the other.
const demoUpgraded = "pizzeria"

// bot is the one that the demonstration plays with.
func (c *demoCommand) bot() string {
	if c.UpgradeBot {
		return demoUpgraded
	}
	if c.BotURL != "" {
		return botOverHTTP
	}
	if c.Calls {
		return demoCaller
	}
	return demoBot
}

// upgrades are the nodes that are started with the other version of the bot than they
// have, in this order: each of them with the newer; or, if it is to be undone, more
// than half of them, and those back again.
func (c *demoCommand) upgrades() (nodes []int) {
	if !c.UpgradeBot {
		return nil
	}
	up := c.Nodes
	if c.UndoUpgrade {
		up = (c.Nodes + 1) / 2 //nolint:mnd // see above
	}
	for i := range up {
		nodes = append(nodes, i)
	}
	for i := up - 1; c.UndoUpgrade && i >= 0; i-- {
		nodes = append(nodes, i)
	}
	return nodes
}

// upgrade drains the node and starts it with the other version of the bot.
func (c *child) upgrade(ctx context.Context) error {
	if err := c.stop(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.previous = !c.previous
	c.mu.Unlock()
	return c.start(ctx)
}

// upgradeReport is what was seen in the database of the versions of states.
type upgradeReport struct {
	Restarts    int `json:"restarts"`    // of nodes, with another version of the bot
	Previous    int `json:"previous"`    // conversations whose state was of the previous version at the end
	Current     int `json:"current"`     // of the current one
	Overwritten int `json:"overwritten"` // conversations that had a state of the current version, and one of the previous later
	Early       int `json:"early"`       // conversations with a state of the current version while a node had the previous bot
	Looks       int `json:"looks"`       // at all conversations
	// Steps are the conversations that went over, by the behaviour that they stood in
	// when they were last seen with a state of the previous version.
	Steps map[string]int `json:"steps"`
}

// versionWatch looks at the versions of all states, again and again.
type versionWatch struct {
	report upgradeReport
	newest map[parley.Conversation]int
	stood  map[parley.Conversation]string // in which behaviour, of those with a state of the previous version
	early  map[parley.Conversation]bool
	behind func() bool // whether a node has the previous version of the bot
}

const watchEvery = 100 * time.Millisecond

// run looks until ctx ends, and then once more.
func (v *versionWatch) run(ctx context.Context, url string) (err error) {
	db, err := postgres.Open(ctx, postgres.Config{URL: url, Conns: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for nap(ctx, watchEvery) {
		// The database may be away just now, if that is played, too.
		if err := v.look(context.WithoutCancel(ctx), db); err != nil && !errors.Is(err, parley.ErrUnavailable) {
			return err
		}
	}
	return v.look(context.WithoutCancel(ctx), db)
}

func (v *versionWatch) look(ctx context.Context, db snapshots) error {
	v.report.Looks++
	v.report.Previous, v.report.Current = 0, 0
	var after parley.Conversation
	for {
		n := 0
		err := db.Snapshots(ctx, after, checkPage, func(s parley.Snapshot, err error) {
			n++
			after = s.Conversation
			if err == nil && len(s.State) > 0 {
				v.take(&s)
			}
		})
		if err != nil || n < checkPage {
			return err
		}
	}
}

func (v *versionWatch) take(s *parley.Snapshot) {
	if s.BotVersion < v.newest[s.Conversation] {
		v.report.Overwritten++
	}
	v.newest[s.Conversation] = s.BotVersion
	if s.BotVersion <= 1 {
		v.report.Previous++
		v.stood[s.Conversation] = s.Behavior
		return
	}
	if step, went := v.stood[s.Conversation]; went {
		delete(v.stood, s.Conversation)
		v.report.Steps[step]++
	}
	v.report.Current++
	if !v.early[s.Conversation] && v.behind() {
		v.early[s.Conversation] = true
		v.report.Early++
	}
}

// watchVersions begins to look; what it returns ends that, and tells what was seen.
func (c *demoCommand) watchVersions(ctx context.Context, store *demoStore, f *fleet) func() (*upgradeReport, error) {
	if !c.UpgradeBot {
		return func() (*upgradeReport, error) { return nil, nil } //nolint:nilnil // nothing was to be seen
	}
	v := &versionWatch{
		newest: map[parley.Conversation]int{}, stood: map[parley.Conversation]string{}, early: map[parley.Conversation]bool{}, behind: f.behind,
	}
	v.report.Steps = map[string]int{}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- v.run(ctx, store.url) }()
	return func() (*upgradeReport, error) {
		stop()
		err := <-done
		v.report.Restarts = f.blown(upgrading)
		return &v.report, err
	}
}

// broken says what is wrong with an upgrade.
func (u *upgradeReport) broken(undone bool) (all []string) {
	say := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(u.Overwritten > 0, "%d conversations were overwritten by the previous version of the bot", u.Overwritten)
	say(u.Early > 0, "%d conversations were stored in the new version while a node had the previous one", u.Early)
	say(undone && u.Current > 0, "%d conversations are of the new version, of which the upgrade was taken back", u.Current)
	say(!undone && u.Current == 0, "no conversation is of the new version")
	return all
}

// judgeUpgrade adds what was seen of the versions to the report.
func (r *report) judgeUpgrade(u *upgradeReport, undone bool) {
	if u == nil {
		return
	}
	r.Upgrade = u
	broken := u.broken(undone)
	r.Broken = append(r.Broken, broken...)
	r.Clean = r.Clean && len(broken) == 0
}

// behind reports whether a node has the previous version of the bot.
func (f *fleet) behind() bool {
	return f.total(func(c *child) int {
		if c.previous {
			return 1
		}
		return 0
	}) > 0
}

// show prints the lines of the table.
func (u *upgradeReport) show(line func(name string, value any, note string)) {
	if u == nil {
		return
	}
	line("upgrade", u.Restarts, "times a node was started with the other version of the bot")
	line("versions", u.Current, fmt.Sprintf("conversations of the new version in the end, %d of the previous; seen in %d looks at all of them", u.Previous, u.Looks))
	for _, step := range slices.Sorted(maps.Keys(u.Steps)) {
		line("  at "+cmp.Or(step, "the start"), u.Steps[step], "conversations stood at this step when they went over")
	}
	line("overwritten", u.Overwritten+u.Early, "conversations by the previous version, or stored in the new one before all read it")
}
