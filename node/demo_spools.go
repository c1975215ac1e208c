package node

import (
	"context"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// spoolsEvery is how often the spools of several nodes are looked at.
const spoolsEvery = 200 * time.Millisecond

// watchSpools has the judge know when nodes used their spools, until ctx ends: what one of
// several acknowledged from there keeps its order among that one's only. Of a single node
// nothing is excused.
func (f *fleet) watchSpools(ctx context.Context, sim *metatest.Simulator) {
	if len(f.children) == 1 {
		return
	}
	watch := &metatest.SpoolWatch{Began: time.Now()} //nolint:forbidigo // it watches real processes
	for nap(ctx, spoolsEvery) {
		f.lookAtSpools(ctx, watch, sim)
	}
	f.lookAtSpools(context.WithoutCancel(ctx), watch, sim)
}

func (f *fleet) lookAtSpools(ctx context.Context, watch *metatest.SpoolWatch, sim *metatest.Simulator) {
	for _, c := range f.children {
		look := metatest.SpoolLook{Began: time.Now()} //nolint:forbidigo // as above
		all := c.metrics(ctx)
		waiting, ok := all[waitingMetric]
		if !ok {
			continue // it isn't there, or has no spool yet
		}
		look.Ended = time.Now() //nolint:forbidigo // as above
		look.Spooled, look.Drained, look.Waiting = int(all[spooledMetric]), int(all[drainedMetric]), int(waiting)
		if from, until, spooled := watch.See(c.admin, look); spooled {
			sim.Spooled(from, until)
		}
	}
}
