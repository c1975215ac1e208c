package main_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// spoolLooks is how often the spools of a crew are looked at.
const spoolLooks = 200 * time.Millisecond

// watchSpools has the judge know when nodes used their spools, planned or not: what one
// of several acknowledged from there binds that one only. The crew ends it.
func (c *crew) watchSpools() (end func()) {
	ctx, stop := context.WithCancel(c.Context())
	watch := &metatest.SpoolWatch{Began: c.began}
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(spoolLooks)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.lookAtSpools(ctx, watch)
			}
		}
	})
	return func() {
		stop()
		watching.Wait()
		c.lookAtSpools(c.Context(), watch)
	}
}

func (c *crew) lookAtSpools(ctx context.Context, watch *metatest.SpoolWatch) {
	for i := range crewSize {
		admin := c.configs[i]["admin"].(string) //nolint:forcetypeassert,errcheck // furnish made it
		look, ok := lookAtSpool(ctx, c.T, admin)
		if !ok {
			continue // it isn't there, or will say later
		}
		if from, until, spooled := watch.See(admin, look); spooled {
			c.sim.Spooled(from, until)
		}
	}
}

// lookAtSpool asks whoever is at an address of admins.
func lookAtSpool(ctx context.Context, t *testing.T, admin string) (look metatest.SpoolLook, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	look.Began = time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", http.NoBody)
	if err != nil {
		return look, false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return look, false
	}
	text, err := io.ReadAll(answer.Body)
	if closed := answer.Body.Close(); err != nil || closed != nil || answer.StatusCode != http.StatusOK {
		return look, false
	}
	if !strings.Contains(string(text), "parley_ingress_spool_records") {
		return look, false // it has no spool yet
	}
	look.Ended = time.Now()
	look.Spooled = sum(t, string(text), "parley_ingress_spool_spooled_total")
	look.Drained = sum(t, string(text), "parley_ingress_spool_drained_total")
	look.Waiting = sum(t, string(text), "parley_ingress_spool_records")
	return look, true
}
