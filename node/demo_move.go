package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// never is when something happens that doesn't.
const never = time.Duration(1 << 62)

// untilMove is when the node moves to PostgreSQL.
func (c *demoCommand) untilMove() time.Duration {
	if !c.Move {
		return never
	}
	return c.Duration / 2
}

// move drains the node, copies its store to PostgreSQL and lets it go on there, as
// an operator would. Meta finds nobody meanwhile.
func (c *child) move(ctx context.Context, w io.Writer) error {
	_, _ = fmt.Fprintln(w, "  the node is drained and moves to PostgreSQL")
	if err := c.stop(ctx); err != nil {
		return err
	}
	began := time.Now() //nolint:forbidigo // the demo watches real processes
	copied, err := copyStore(ctx, c.cfg.Data, c.store.url, w)
	if err != nil {
		return err
	}
	c.store.kind, c.store.moved = storePostgres, copied.Target.Items()
	c.store.moving = time.Since(began) //nolint:forbidigo // as above
	if err := os.Rename(c.cfg.Data, c.cfg.Data+".moved"); err != nil {
		return fmt.Errorf("move the folder out of the way: %w", err)
	}
	if err := c.configure(); err != nil {
		return err
	}
	return c.start(ctx)
}
