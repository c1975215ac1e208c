package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// loopback is a server on this machine that plays a part beside the node.
type loopback struct {
	listener net.Listener
	server   *http.Server
	served   chan error
}

func serveLoopback(ctx context.Context, part string, h http.Handler) (*loopback, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen as %s: %w", part, err)
	}
	l := &loopback{listener: ln, served: make(chan error, 1), server: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	go func() { l.served <- l.server.Serve(ln) }()
	return l, nil
}

func (l *loopback) url() string { return "http://" + l.listener.Addr().String() }

func (l *loopback) close() error {
	err := l.server.Close()
	if served := <-l.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
