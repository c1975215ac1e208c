package node

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/meta/metatest/history"
)

// judgement is what the record of a run showed.
type judgement struct {
	Promises []metatest.Promise `json:"promises"`
	History  *history.Report    `json:"history"`
}

// disturbed reports whether something is done to nodes or to the store that has to heal.
func (c *demoCommand) disturbed() bool {
	return c.Kill+c.Stop+c.Drain+c.Partition+c.KillPostgres > 0 || c.UpgradeBot || c.Move
}

// beginHistory begins to record what is seen of conversations.
func (c *demoCommand) beginHistory(dir string, world *metatest.Config) (*history.File, error) {
	past, err := history.Create(cmp.Or(c.History, filepath.Join(dir, "history.jsonl")))
	if err != nil {
		return nil, err
	}
	world.History, world.Farewell = past.Writer, c.disturbed()
	return past, nil
}

// healsWithin is how soon events take effect again after a fault (G9).
const healsWithin = 5 * time.Second

// answersWithin is how soon a last message must be answered: two sends before it, or of
// its own, may be in doubt.
func (c *demoCommand) answersWithin() time.Duration {
	_, patience := sendTimes(c.DoubtfulWait)
	return healsWithin + 2*(c.DoubtfulWait+patience)
}

// partLater lets every user write once more when all that is done to nodes and to the
// store is over, and the users have written all.
func (c *demoCommand) partLater(ctx context.Context, disturbers *sync.WaitGroup, f *fleet, sim *metatest.Simulator) {
	if !c.disturbed() {
		return
	}
	began := time.Now() //nolint:forbidigo // the demo watches real processes
	go func() {
		disturbers.Wait()
		if nap(ctx, c.Duration-time.Since(began)) { //nolint:forbidigo // as above
			f.doing.Lock() // not while the node moves
			defer f.doing.Unlock()
			sim.Farewell(c.answersWithin())
		}
	}()
}

// judge checks the history, and says of each promise what the run showed of it.
func (r *report) judge(ctx context.Context, past *history.File, outages int, ackMedian time.Duration) error {
	h, err := past.Check(ctx, history.Options{})
	if err != nil {
		return err
	}
	c := metatest.Circumstances{
		Nodes: r.Nodes, Changes: r.Kills + r.Stops + r.Drains + r.Partitions,
		Faults: r.Kills + r.Stops + r.Drains + r.Partitions + outages, MedianMost: ackMedian,
	}
	if r.MovedItems > 0 {
		c.Faults++
	}
	if u := r.Upgrade; u != nil {
		c.Faults, c.Changes = c.Faults+u.Restarts, c.Changes+u.Restarts
		c.Stored, c.Overwritten = u.Current+u.Previous, u.Overwritten+u.Early
	}
	r.History, r.Promises = &h, metatest.Promises(&r.Verdict, &h, c)
	r.Clean = r.Clean && h.Clean()
	for _, p := range r.Promises {
		r.Clean = r.Clean && p.Broken == 0
	}
	for _, f := range h.Findings {
		r.Broken = append(r.Broken, fmt.Sprintf("%s %s: %s", f.Promise, f.Conversation, f.What))
	}
	for _, name := range h.UndecidedOnes {
		r.Broken = append(r.Broken, "no order of events found, nor that there is none, in the time there was: "+name)
	}
	return nil
}

// word is the verdict in short.
func (r *report) word() string {
	if r.Clean {
		return "every promise kept"
	}
	return "BROKEN"
}

// show prints the lines of the table.
func (j *judgement) show(line func(name string, value any, note string)) {
	line("history", j.History.Operations, "operations: "+j.History.Summary())
	for _, p := range j.Promises {
		if p.Checked == 0 && p.Broken == 0 {
			line(p.ID, "-", p.Name+": "+p.Note)
			continue
		}
		line(p.ID, fmt.Sprintf("%d broken", p.Broken), fmt.Sprintf("%s: %d %s", p.Name, p.Checked, p.Note))
	}
}
