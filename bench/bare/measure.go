package bare

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// messagesDistinct is how many different messages a measurement sends in turn:
// enough that no cache holds the answer, few enough to be signed beforehand.
const messagesDistinct = 256

// childExit is how long the child may take to end once its input has.
const childExit = 5 * time.Second

// MeasureConfig says how to measure.
type MeasureConfig struct {
	Rate     float64       // requests per second; default 2000
	Duration time.Duration // of what is measured; default 5 s
	Warmup   time.Duration // before it: connections, heap, caches; default 1 s
	Bytes    int           // of a message; default 450
}

func (c MeasureConfig) resolve() MeasureConfig {
	c.Rate = cmp.Or(c.Rate, 2000)
	c.Duration = cmp.Or(c.Duration, 5*time.Second)
	c.Warmup = cmp.Or(c.Warmup, time.Second)
	c.Bytes = cmp.Or(c.Bytes, 450)
	return c
}

// Unit is what one measurement found.
type Unit struct {
	PerRequest time.Duration // CPU time, user and system, of the server's process only
	Load       LoadResult
}

// Measure starts child, which must be a command whose process calls [Child] with
// its standard input and output, loads it, and returns what a request cost. Any
// request that wasn't answered with 200 is an error: the figure would be of
// something else. The child has ended when Measure returns.
func Measure(ctx context.Context, child *exec.Cmd, cfg MeasureConfig) (unit Unit, err error) {
	cfg = cfg.resolve()
	secret := []byte(hex.EncodeToString([]byte("the secret of a benchmark")))
	addr, stop, err := startChild(child, secret)
	if err != nil {
		return Unit{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	load := LoadConfig{Addr: addr, Rate: cfg.Rate, Duration: cfg.Warmup, Post: posts(secret, cfg.Bytes)}
	if _, err := Load(ctx, load); err != nil {
		return Unit{}, fmt.Errorf("warm up: %w", err)
	}
	before, err := ProcessCPU(child.Process.Pid)
	if err != nil {
		return Unit{}, err
	}
	load.Duration = cfg.Duration
	result, err := Load(ctx, load)
	if err != nil {
		return Unit{}, err
	}
	after, err := ProcessCPU(child.Process.Pid)
	if err != nil {
		return Unit{}, err
	}
	if result.Accepted != result.Offered || result.Offered == 0 || ctx.Err() != nil {
		return Unit{}, errors.Join(fmt.Errorf("measure: %d of %d requests were accepted", result.Accepted, result.Offered), ctx.Err())
	}
	return Unit{PerRequest: (after - before) / time.Duration(result.Offered), Load: result}, nil
}

// startChild starts the child, hands it the secret and reads its address. Stop
// ends its input and waits; it is called once.
func startChild(child *exec.Cmd, secret []byte) (addr string, stop func() error, err error) {
	in, err := child.StdinPipe()
	if err != nil {
		return "", nil, fmt.Errorf("child's input: %w", err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("child's output: %w", err)
	}
	child.WaitDelay = childExit
	if err := child.Start(); err != nil {
		return "", nil, fmt.Errorf("start child: %w", err)
	}
	stop = func() error { return stopChild(child, in) }
	_, err = fmt.Fprintf(in, "%s\n", secret)
	if err == nil {
		addr, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("child's address: %w", err), stop())
	}
	return strings.TrimSpace(addr), stop, nil
}

func stopChild(child *exec.Cmd, in io.Closer) error {
	_ = in.Close() // a child that has ended has closed it already
	killed := time.AfterFunc(childExit, func() { _ = child.Process.Kill() })
	defer killed.Stop()
	if err := child.Wait(); err != nil {
		return fmt.Errorf("child: %w", err)
	}
	return nil
}

func posts(secret []byte, bytes int) func(uint64) Post {
	prepared := make([]Post, messagesDistinct)
	for i := range prepared {
		body := Message(uint64(i), bytes)
		prepared[i] = Post{Body: body, Signature: Sign(secret, body)}
	}
	return func(k uint64) Post { return prepared[k%messagesDistinct] }
}
