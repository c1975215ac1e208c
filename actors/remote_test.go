package actors_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/actors/wire"
)

var update = flag.Bool("update", false, "write golden files")

// station is a Remote on loopback and a connection to it that says what it likes.
type station struct {
	*testing.T
	registry *prometheus.Registry
	address  string
	came     chan *wire.Parcel
	client   remote.RemotingClient
	stream   remote.Remoting_ReceiveClient
}

func newStation(t *testing.T) *station {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &station{T: t, registry: prometheus.NewRegistry(), address: ln.Addr().String(), came: make(chan *wire.Parcel, 100)}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := actors.NewRemote(actors.RemoteConfig{Listen: s.address, Advertise: s.address, Registerer: s.registry})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, func(p *wire.Parcel) { s.came <- p }) }()
	<-r.Up()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s.client = remote.NewRemotingClient(conn)
	return s
}

func (s *station) connect() {
	s.Helper()
	stream, err := s.client.Receive(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.stream = stream
}

// send sends messages to actors of the station.
func (s *station) send(kind, target string, data ...[]byte) {
	s.Helper()
	b := &remote.MessageBatch{TypeNames: []string{kind}, Targets: []*actor.PID{actor.NewPID(s.address, target)}}
	for _, d := range data {
		b.Envelopes = append(b.Envelopes, &remote.MessageEnvelope{MessageData: d})
	}
	s.post(b)
}

func (s *station) post(b *remote.MessageBatch) {
	s.Helper()
	if err := s.stream.Send(&remote.RemoteMessage{MessageType: &remote.RemoteMessage_MessageBatch{MessageBatch: b}}); err != nil {
		s.Fatal(err)
	}
}

// arrives waits for a parcel of a number.
func (s *station) arrives(number uint64) *wire.Parcel {
	s.Helper()
	select {
	case p := <-s.came:
		if p.GetNumber() != number {
			s.Fatalf("parcel %d came, want %d", p.GetNumber(), number)
		}
		return p
	case <-time.After(10 * time.Second):
		s.Fatalf("parcel %d never came", number)
		return nil
	}
}

func (s *station) refused() (n float64) {
	s.Helper()
	all, err := s.registry.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "parley_actors_messages_refused_total" {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

const parcelType = "parley.actors.v1.Parcel"

func packed(t *testing.T, p *wire.Parcel) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// One after another: the library sets gRPC's logger, which all of a process share,
// without a lock.
func TestRemote(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for _, test := range []func(*testing.T, *station){foreignMessagesAreLeftOut, diagnosticsAreRefused, garbageEndsItsConnection} {
		s.connect()
		test(t, s)
	}
}

// What a node may not send, or a later program's node sends, is counted and left
// out; what comes before and after it on the same connection arrives.
func foreignMessagesAreLeftOut(t *testing.T, s *station) {
	t.Helper()
	before := s.refused()
	parcel := func(n uint64) []byte { return packed(t, &wire.Parcel{Number: n}) }
	s.send(parcelType, "parley", parcel(1))
	s.send("parley.actors.v9.Novelty", "parley", []byte("?")) // ends a process that looks for its type
	s.send("actor.Stop", "parley", nil)
	s.send("actor.PoisonPill", "parley", nil)
	s.send(parcelType, "eventstream", parcel(9))
	s.send(parcelType, "activator", parcel(9))
	s.post(&remote.MessageBatch{
		TypeNames: []string{parcelType}, Targets: []*actor.PID{actor.NewPID("10.0.0.1:1", "parley")}, // to be passed on
		Envelopes: []*remote.MessageEnvelope{{MessageData: parcel(9)}},
	})
	s.post(&remote.MessageBatch{
		TypeNames: []string{parcelType}, Targets: []*actor.PID{actor.NewPID(s.address, "parley")},
		Envelopes: []*remote.MessageEnvelope{{TypeId: 7}, {Target: -1}, {SerializerId: 1, MessageData: []byte("{}")}, {MessageData: parcel(2), Sender: 5}},
	})
	s.arrives(1)
	s.arrives(2)
	if got := s.refused() - before; got != 9 {
		t.Errorf("%v refused, want 9", got)
	}
}

// The library's calls for diagnostics end the process that is asked.
func diagnosticsAreRefused(t *testing.T, s *station) {
	t.Helper()
	if _, err := s.client.ListProcesses(t.Context(), &remote.ListProcessesRequest{}); err == nil {
		t.Error("processes are listed")
	}
	if _, err := s.client.GetProcessDiagnostics(t.Context(), &remote.GetProcessDiagnosticsRequest{}); err == nil {
		t.Error("diagnostics are given")
	}
	s.send(parcelType, "parley", packed(t, &wire.Parcel{Number: 1}))
	s.arrives(1)
}

// A parcel that can't be read ends its connection, and nothing else.
func garbageEndsItsConnection(t *testing.T, s *station) {
	t.Helper()
	s.send(parcelType, "parley", []byte{0xff, 0xff, 0xff})
	if _, err := s.stream.Recv(); err == nil {
		t.Error("the connection goes on")
	}
	s.connect()
	s.send(parcelType, "parley", packed(t, &wire.Parcel{Number: 1}))
	s.arrives(1)
}

// ageless is a parcel with all that the first version had.
func ageless() *wire.Parcel {
	ch := &wire.Channel{Brand: []byte("b"), Kind: []byte("messenger"), Id: []byte("1")}
	return &wire.Parcel{
		From: "10.0.0.1:7947", Run: 1, Number: 2, TakenRun: 3, Taken: 4,
		Rows: []*wire.Row{
			{Channel: ch, Contact: []byte("user:1"), Seq: 5, Token: 6, Key: bytes.Repeat([]byte{7}, 16), At: 8, Received: 9, Late: true, Data: []byte(`{"kind":"message","input":{"text":"hi"}}`), Passes: 1},
			{Contact: []byte("user:2\xff"), Seq: 10, Token: 11, Key: bytes.Repeat([]byte{12}, 16), Received: 13, Data: []byte(`{"kind":"message","input":{"text":"ho"}}`)},
		},
		Wakes:    []*wire.Wake{{Channel: ch, Contact: []byte("user:3"), Seek: true, Passes: 1}},
		Channels: []*wire.Channel{ch},
		Releases: []*wire.Release{{Claim: 14, Shards: []byte{1, 0, 2}}}, Released: []*wire.Released{{Claim: 15, Shards: []byte{3}}},
		Inquiries: []*wire.Inquiry{{Id: 16}},
		Reports:   []*wire.Report{{Id: 17, Name: "n", Clock: 18, View: 19, Held: 20, Claiming: 21, Releasing: 22, Conversations: 23, Rows: 24, Channels: 25}},
		Drain:     true,
	}
}

// grown is one with what was added since.
func grown() *wire.Parcel {
	p := ageless()
	p.Reports[0].Spooled, p.Calls = 26, true
	p.Sent = []*wire.Sent{{Channel: p.GetChannels()[0], Id: bytes.Repeat([]byte{27}, 16), ProviderId: []byte("mid.28")}}
	return p
}

// Nodes of different versions work together while a cluster is upgraded: what any
// version wrote is read, and written, for ever.
func TestWireStays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*wire.Parcel{"parcel-1": ageless(), "parcel-2": grown()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wireStays(t, filepath.Join("testdata", "wire", name+".hex"), want)
		})
	}
}

func wireStays(t *testing.T, path string, want *wire.Parcel) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(packed(t, want))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	got := &wire.Parcel{}
	if err := proto.Unmarshal(first, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("it is read as %v", got)
	}
	if !bytes.Equal(packed(t, got), first) {
		t.Error("it is written differently")
	}
	rows, err := actors.RowsFromWire(got.GetRows())
	if err != nil || len(rows) != 2 || rows[1].Conversation.Channel != rows[0].Conversation.Channel || rows[1].Conversation.Contact != "user:2\xff" {
		t.Errorf("rows: %+v, %v", rows, err)
	}
}

// A later program's parcel has more in it. The rest of it counts.
func TestLaterParcelsAreTaken(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a")
	w.place(plan{owners: []string{"a"}, nodes: []string{"a", "z"}})
	later := packed(t, &wire.Parcel{From: "z", Run: 1, Number: 1, Inquiries: []*wire.Inquiry{{Id: 3}}})
	later = protowire.AppendTag(later, 99, protowire.BytesType)
	later = protowire.AppendBytes(later, []byte("news"))
	answers := make(chan *wire.Parcel, 10)
	z := w.fabric.link("z")
	w.fabric.links["a"].in <- later
	for {
		select {
		case b := <-z.in:
			p := &wire.Parcel{}
			if err := proto.Unmarshal(b, p); err != nil {
				t.Fatal(err)
			}
			if len(p.GetReports()) == 1 && p.GetReports()[0].GetId() == 3 {
				return
			}
			answers <- p
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
	}
}

// A row of a later program's keeps none of the others from their conversations.
func TestRowsAroundAnUnknownOne(t *testing.T) {
	t.Parallel()
	rows := ageless().GetRows()
	later := proto.CloneOf(rows[1])
	later.Data = []byte(`{"kind":"telepathy","input":{}}`)
	got, err := actors.RowsFromWire([]*wire.Row{rows[0], later, rows[1]})
	if err == nil || len(got) != 2 || got[1].Conversation.Contact != "user:2\xff" {
		t.Errorf("%d rows, %v", len(got), err)
	}
}
