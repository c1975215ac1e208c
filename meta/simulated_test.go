package meta_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
	"github.com/parleychat/parley/meta/metatest"
)

// simulated is a simulated Meta to which somebody has written on each platform.
type simulated struct {
	world  *metatest.World
	now    time.Time
	talks  map[parley.ChannelKind]parley.Conversation
	tokens map[string]string
}

func newSimulated(tb testing.TB) *simulated {
	tb.Helper()
	begin := time.Unix(1_790_000_000, 0).UTC()
	s := &simulated{
		now: begin.Add(time.Second), talks: map[parley.ChannelKind]parley.Conversation{}, tokens: map[string]string{},
		world: metatest.NewWorld(metatest.Config{
			Start: begin, Rate: 60, Users: 60, Duration: time.Second, AnswerMax: -1,
			Channels: metatest.Counts{Messenger: 1, Instagram: 1, WhatsApp: 1},
		}),
	}
	for _, c := range s.world.Channels() {
		s.tokens[c.ID] = c.Token
	}
	for _, p := range s.world.Due(s.now) {
		d, err := meta.Decode(p.Body, everything())
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range d.Events {
			s.talks[e.Channel.Kind] = parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}
		}
		s.world.Posted(p.ID, 200, s.now)
	}
	if len(s.talks) != len(platforms) {
		tb.Fatalf("somebody wrote on %d platforms", len(s.talks))
	}
	return s
}

// to is a message to who wrote on a platform.
func (s *simulated) to(kind parley.ChannelKind, send parley.Send) *parley.Outgoing {
	return &parley.Outgoing{ID: parley.NewID(s.now, [16]byte{1}), Conversation: s.talks[kind], Send: send}
}

// answer is what Meta has against a request: nothing if it takes it.
func (s *simulated) answer(kind parley.ChannelKind, path string, body []byte) string {
	id := s.talks[kind].Channel.ID // which path begins with
	a := s.world.Graph(metatest.GraphRequest{Method: "POST", Path: "/v26.0/" + path, Token: s.tokens[id], Body: body}, s.now)
	if a.Status == 200 {
		return ""
	}
	return string(a.Body)
}
