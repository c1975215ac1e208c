package node

import (
	"context"
	"io"

	"github.com/parleychat/parley"
)

// Command runs one command line, and returns its exit code.
func Command(ctx context.Context, out, errs io.Writer, args ...string) int {
	return run(ctx, system{out: out, errors: errs}, args)
}

// CommandOf runs one command line of a program with bots, and returns its exit code.
func CommandOf(ctx context.Context, bots []parley.Bot, out, errs io.Writer, args ...string) int {
	return run(ctx, system{out: out, errors: errs, bots: bots}, args)
}
