package node

import (
	"context"
	"io"
)

// Command runs one command line, and returns its exit code.
func Command(ctx context.Context, out, errs io.Writer, args ...string) int {
	return run(ctx, system{out: out, errors: errs}, args)
}
