package bare_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley/bench/bare"
)

const secret = "s3cret"

func TestMessage(t *testing.T) {
	t.Parallel()
	one, two := bare.Message(1, 450), bare.Message(2, 450)
	if len(one) != 450 || len(two) != 450 || bytes.Equal(one, two) {
		t.Errorf("want two different messages of 450 bytes, got %s and %s", one, two)
	}
	if !json.Valid(one) {
		t.Errorf("not JSON: %s", one)
	}
	if short := bare.Message(1, 0); !json.Valid(short) || len(short) >= 450 {
		t.Errorf("a message that can't be as short as that stays whole: %s", short)
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	body := bare.Message(1, 450)
	good := bare.Sign([]byte(secret), body)
	for _, c := range []struct {
		name, method, signature string
		want                    int
	}{
		{"signed", "POST", good, 200},
		{"signed with another secret", "POST", bare.Sign([]byte("other"), body), 401},
		{"signature of another body", "POST", bare.Sign([]byte(secret), body[1:]), 401},
		{"not hex", "POST", good[:len(good)-1] + "g", 401},
		{"cut short", "POST", good[:len(good)-2], 401},
		{"another scheme", "POST", "sha257=" + strings.TrimPrefix(good, "sha256="), 401},
		{"unsigned", "POST", "", 401},
		{"another method", "GET", good, 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var ctx fasthttp.RequestCtx
			ctx.Request.Header.SetMethod(c.method)
			ctx.Request.Header.Set("X-Hub-Signature-256", c.signature)
			ctx.Request.SetBody(body)
			bare.Handler([]byte(secret))(&ctx)
			if got := ctx.Response.StatusCode(); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

// serve starts a server for the test and returns its address.
func serve(t *testing.T, handler fasthttp.RequestHandler) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := fasthttp.Server{Handler: handler, NoDefaultDate: true}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-done); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func signed(k uint64) bare.Post {
	body := bare.Message(k, 450)
	return bare.Post{Body: body, Signature: bare.Sign([]byte(secret), body)}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	t.Run("offers what is due", func(t *testing.T) {
		t.Parallel()
		var paths atomic.Int64
		check := bare.Handler([]byte(secret))
		addr := serve(t, func(ctx *fasthttp.RequestCtx) {
			if string(ctx.Path()) == "/webhooks/shop" {
				paths.Add(1)
			}
			check(ctx)
		})
		got, err := bare.Load(t.Context(), bare.LoadConfig{
			Addr: addr, Path: "/webhooks/shop", Rate: 500, Duration: 400 * time.Millisecond,
			Post: func(k uint64) bare.Post {
				p := signed(k)
				if k%4 == 0 {
					p.Signature = "sha256=no"
				}
				return p
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Offered != 200 || got.Accepted != 150 || got.Refused != 50 || got.Failed != 0 || paths.Load() != 200 {
			t.Errorf("%+v, %d at the path; want 200 offered at it, 150 accepted, 50 refused", got, paths.Load())
		}
		if last := 199 * time.Second / 500; got.Elapsed < last {
			t.Errorf("took %v: the last was due only after %v", got.Elapsed, last)
		}
		if got.P50 <= 0 || got.P50 > got.P99 || got.P99 > got.Max {
			t.Errorf("latencies %v, %v, %v", got.P50, got.P99, got.Max)
		}
	})
	t.Run("counts a stall for all that came due in it", func(t *testing.T) {
		t.Parallel()
		const stall = 300 * time.Millisecond
		var first atomic.Bool
		addr := serve(t, func(*fasthttp.RequestCtx) {
			if !first.Swap(true) {
				time.Sleep(stall)
			}
		})
		got, err := bare.Load(t.Context(), bare.LoadConfig{Addr: addr, Rate: 100, Duration: stall, Connections: 1, Post: signed})
		if err != nil {
			t.Fatal(err)
		}
		if got.Accepted != 30 || got.P50 < stall/3 || got.LagMax < stall/2 {
			t.Errorf("%+v; want all 30 accepted, half of them after %v and more", got, stall/3)
		}
	})
}

func TestLoadEnds(t *testing.T) {
	t.Parallel()
	t.Run("counts what isn't answered", func(t *testing.T) {
		t.Parallel()
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := ln.Close(); err != nil { // nobody is there
			t.Fatal(err)
		}
		got, err := bare.Load(t.Context(), bare.LoadConfig{Addr: ln.Addr().String(), Rate: 100, Duration: 100 * time.Millisecond, Post: signed})
		if err != nil || got.Failed != 10 || got.Offered != 10 {
			t.Errorf("%+v, %v; want 10 failed", got, err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		t.Parallel()
		addr := serve(t, bare.Handler([]byte(secret)))
		ctx, cancel := context.WithCancel(t.Context())
		got, err := bare.Load(ctx, bare.LoadConfig{Addr: addr, Rate: 10, Duration: time.Hour, Post: func(k uint64) bare.Post {
			if k == 2 {
				cancel()
			}
			return signed(k)
		}})
		if err != nil || got.Accepted != 3 {
			t.Errorf("%+v, %v; want the 3 that were taken", got, err)
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]bare.LoadConfig{
		"no address":  {Rate: 1, Duration: time.Second, Post: signed},
		"no post":     {Addr: "x", Rate: 1, Duration: time.Second},
		"no rate":     {Addr: "x", Duration: time.Second, Post: signed},
		"nothing due": {Addr: "x", Rate: 1, Duration: time.Millisecond, Post: signed},
		"too much":    {Addr: "x", Rate: 100_000, Duration: time.Hour, Post: signed},
		"too fast":    {Addr: "x", Rate: 1e9, Duration: time.Millisecond, Post: signed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := bare.Load(t.Context(), c); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	command := func(t *testing.T, env string) *exec.Cmd {
		t.Helper()
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), env)
		return child
	}
	cfg := bare.MeasureConfig{Rate: 500, Duration: 500 * time.Millisecond, Warmup: 100 * time.Millisecond}
	t.Run("its process only", func(t *testing.T) {
		t.Parallel()
		child := command(t, childVariable+"=1")
		unit, err := bare.Measure(t.Context(), child, cfg)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		used := child.ProcessState.UserTime() + child.ProcessState.SystemTime()
		if sum := unit.PerRequest * time.Duration(unit.Load.Offered); unit.Load.Offered != 250 || sum <= 0 || sum > used {
			t.Errorf("%d requests of %v, in a process that used %v in all", unit.Load.Offered, unit.PerRequest, used)
		}
	})
	t.Run("a child that serves nothing", func(t *testing.T) {
		t.Parallel()
		if _, err := bare.Measure(t.Context(), command(t, "NOTHING=1"), cfg); err == nil {
			t.Error("no error")
		}
	})
}

func TestProcessCPU(t *testing.T) {
	t.Parallel()
	before, err := bare.ProcessCPU(os.Getpid())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	const work = 20 * time.Millisecond
	deadline := time.Now().Add(30 * time.Second)
	for sum := 0; ; sum++ {
		if sum%1_000_000 != 0 {
			continue
		}
		now, err := bare.ProcessCPU(os.Getpid())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("CPU time went from %v to %v, %v", before, now, err)
		}
		if now-before >= work {
			return
		}
	}
}
