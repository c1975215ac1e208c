package actors

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/parleychat/parley/actors/wire"
)

const (
	desk          = "parley"                    // the one actor of a node that others can reach
	parcelType    = "parley.actors.v1.Parcel"   // the one message
	linkBatch     = 8                           // parcels in one message of the library's
	linkWindow    = 1 << 20                     // on their way at once; a fixed size spares a ping for each parcel, by which the library would measure it
	linkMessage   = 2 * linkBatch * parcelBytes // what is received at most in one
	linkQueue     = 64                          // slots for a peer's parcels to begin with; peerRows bounds them
	linkPing      = 10 * time.Second            // to find that a peer is frozen without having gone
	linkPong      = 3 * time.Second
	linkPingLeast = 5 * time.Second // pings that come faster are abuse
	linkRetries   = 1               // more leak connections, and keep what is sent waiting
)

// RemoteConfig is what a Remote is made of.
type RemoteConfig struct {
	Listen     string      // host:port
	Advertise  string      // host:port by which others reach it, and by which this node is known
	TLS        *tls.Config // of both sides: it must demand and verify certificates; nil: none
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Remote is a Link over protoactor's remote, on gRPC.
//
// The library has no authentication and trusts what comes in: anybody who
// reaches the port could stop any actor, and a message of a type that a program
// doesn't know ends its process. So there is an actor system of its own here with
// one actor, TLS proves who is there, and an interceptor lets through parcels to
// that actor and nothing else.
type Remote struct {
	cfg     RemoteConfig
	host    string
	port    int
	system  *actor.ActorSystem
	refused func(int)     // counts what was left out
	up      chan struct{} // closed when it listens

	mu    sync.Mutex
	open  bool
	wires *remote.Remote
	peers map[string]struct{} // addresses to which there may be a connection
}

// NewRemote checks a configuration. Nothing listens before Run.
func NewRemote(cfg RemoteConfig) (*Remote, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	host, text, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("address for messages %q: want host:port", cfg.Listen)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address for messages %q: want a port between 0 and 65535", cfg.Listen)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // the library joins them by itself
	}
	quiet := slog.New(slog.DiscardHandler) // it logs whole messages
	return &Remote{
		cfg: cfg, host: host, port: int(port), up: make(chan struct{}), peers: map[string]struct{}{},
		system: actor.NewActorSystem(
			actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }),
			actor.WithDeadLetterRequestLogging(false),
		),
		refused: newRefused(cfg.Registerer),
	}, nil
}

func (r *Remote) options() []remote.ConfigOption {
	to, from := insecure.NewCredentials(), insecure.NewCredentials()
	if r.cfg.TLS != nil {
		to, from = credentials.NewTLS(r.cfg.TLS), credentials.NewTLS(r.cfg.TLS)
	}
	return []remote.ConfigOption{
		remote.WithAdvertisedHost(r.cfg.Advertise),
		remote.WithDialOptions(
			grpc.WithTransportCredentials(to),
			grpc.WithInitialWindowSize(linkWindow), grpc.WithInitialConnWindowSize(linkWindow),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: linkPing, Timeout: linkPong, PermitWithoutStream: true}),
		),
		remote.WithServerOptions(
			grpc.Creds(from),
			grpc.InitialWindowSize(linkWindow), grpc.InitialConnWindowSize(linkWindow),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: linkPingLeast, PermitWithoutStream: true}),
			grpc.MaxRecvMsgSize(linkMessage),
			grpc.StreamInterceptor(r.guard),
			grpc.UnaryInterceptor(refuse),
		),
		remote.WithEndpointWriterBatchSize(linkBatch),
		remote.WithEndpointWriterQueueSize(linkQueue),
		func(c *remote.Config) { c.MaxRetryCount = linkRetries },
	}
}

// Run listens, and receives parcels until ctx ends.
func (r *Remote) Run(ctx context.Context, receive func(*wire.Parcel)) error {
	props := actor.PropsFromFunc(func(c actor.Context) {
		if p, ok := c.Message().(*wire.Parcel); ok {
			receive(p)
		}
	}, actor.WithDispatcher(newRunners(ctx.Done())))
	if _, err := r.system.Root.SpawnNamed(props, desk); err != nil {
		return fmt.Errorf("receive messages of other nodes: %w", err)
	}
	if err := r.start(); err != nil {
		return err
	}
	<-ctx.Done()
	r.stop()
	return nil
}

// start listens. The library panics where it can't.
func (r *Remote) start() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("listen for messages of other nodes on %s: %v", r.cfg.Listen, p)
		}
	}()
	wires := remote.NewRemote(r.system, remote.Configure(r.host, r.port, r.options()...))
	wires.Start()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wires, r.open = wires, true
	close(r.up)
	return nil
}

// Up is closed when other nodes can reach this one: only then should they hear of
// it, since whoever tries too early rests for seconds.
func (r *Remote) Up() <-chan struct{} { return r.up }

// stop hangs up. The library's own graceful way takes away what its connections
// still use, and may wait for a frozen peer for ten seconds.
func (r *Remote) stop() {
	r.mu.Lock()
	r.open = false
	for address := range r.peers {
		r.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: address})
	}
	r.mu.Unlock()
	r.wires.Shutdown(false)
	r.system.Shutdown()
}

// Send passes a parcel on, or loses it.
func (r *Remote) Send(address string, p *wire.Parcel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		r.peers[address] = struct{}{}
		r.system.Root.Send(actor.NewPID(address, desk), p)
	}
}

// Forget closes the connection to a node, with what waits for it.
func (r *Remote) Forget(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		delete(r.peers, address)
		r.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: address})
	}
}

var errUnary = status.Error(codes.PermissionDenied, "nodes send parcels and nothing else")

// refuse refuses the library's calls for diagnostics, which end the process.
func refuse(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, errUnary
}

// guard lets through what nodes may send each other.
func (r *Remote) guard(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Logger.Error("a connection from another node ends: panic", slog.String("type", fmt.Sprintf("%T", p)))
			err = errPanic
		}
	}()
	return handle(srv, &guarded{ServerStream: stream, remote: r})
}

var errPanic = errors.New("panic")

type guarded struct {
	grpc.ServerStream
	remote *Remote
}

// RecvMsg receives a message and takes out of it what may not be there.
func (g *guarded) RecvMsg(m any) error {
	if err := g.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if m, ok := m.(*remote.RemoteMessage); ok {
		g.remote.refused(sift(m, g.remote.cfg.Advertise))
	}
	return nil
}

// sift takes out of a message whatever isn't a parcel to this node, and returns how
// much that was.
func sift(m *remote.RemoteMessage, self string) (refused int) {
	batch := m.GetMessageBatch()
	if batch == nil {
		if m.GetConnectRequest().GetServerConnection() == nil {
			m.MessageType = &remote.RemoteMessage_MessageBatch{MessageBatch: &remote.MessageBatch{}}
			return 1
		}
		return 0
	}
	kept := batch.Envelopes[:0]
	for _, e := range batch.GetEnvelopes() {
		if e == nil || !allowed(batch, e, self) {
			refused++
			continue
		}
		e.Sender, e.MessageHeader, e.TargetRequestId = 0, nil, 0
		kept = append(kept, e)
	}
	batch.Envelopes = kept
	return refused
}

func allowed(b *remote.MessageBatch, e *remote.MessageEnvelope, self string) bool {
	kind, to := int(e.GetTypeId()), int(e.GetTarget())
	if kind < 0 || kind >= len(b.GetTypeNames()) || to < 0 || to >= len(b.GetTargets()) {
		return false
	}
	target := b.GetTargets()[to] // of another node's address, the library would pass it on
	return b.GetTypeNames()[kind] == parcelType && e.GetSerializerId() == 0 && target.GetId() == desk && target.GetAddress() == self
}
