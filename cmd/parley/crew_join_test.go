package main_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// joined lets a node leave and come back while very many conversations are in
// memory besides those of the users: they change hands, and go on.
func joined(c *crew) {
	s := c.strangers(pick(5_000, 100_000))
	s.write()
	for range pick(1, 3) {
		live := s.live()
		if live < s.n {
			c.Errorf("%d conversations are in memory, want %d", live, s.n)
		}
		c.during(func() {
			c.count(c.nodes[2])
			c.nodes[2].stop(c.T)
			c.rest(2 * time.Second)
			c.begin(2)
		})
		c.meet()
		s.write() // wherever they are now
	}
	s.look()
}

const (
	strangersWithin = time.Minute // have had a turn, all that said something at once
	strangersAtOnce = 1000
	strangersLook   = 300 * time.Millisecond // it costs the database something
)

// strangers are people who say something that the bot doesn't answer. It comes to
// the store behind the nodes' backs, which find it there.
type strangers struct {
	*crew

	store  *postgres.Store
	conn   *pgx.Conn
	n      int
	atOnce int // say something
	said   int // things by each of them
}

// strangers are so many of them, who have said nothing yet.
func (c *crew) strangers(n int) *strangers {
	c.Helper()
	s := &strangers{crew: c, n: n, atOnce: strangersAtOnce}
	s.arrive()
	return s
}

// arrive connects to the store.
func (s *strangers) arrive() {
	s.Helper()
	store, err := postgres.Open(s.Context(), postgres.Config{URL: s.url(s.server), Conns: 1})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := store.Close(); err != nil {
			s.Error(err)
		}
	})
	s.store, s.conn = store, s.connect(s.server)
}

// afterwards sees that what they said has taken effect, and that some of them are heard
// after all that has been.
func (s *strangers) afterwards() {
	s.Helper()
	const some = 10 // one of so many
	s.arrive()
	s.look()
	few := *s
	few.n = max(1, s.n/some)
	few.write()
	few.look()
}

func (s *strangers) conversation(i int) parley.Conversation {
	ch := s.sim.Channels()[0]
	return parley.Conversation{
		Channel: parley.Channel{Brand: "demo", Kind: parley.ChannelKind(ch.Platform), ID: ch.ID},
		Contact: parley.Contact(fmt.Sprintf("%sstranger%d", parley.UserKey, i)),
	}
}

// write has each of them say something, and returns when all of that was taken in.
func (s *strangers) write() {
	s.Helper()
	s.said++
	var events []parley.Event
	for i := range s.n {
		c, id := s.conversation(i), fmt.Sprintf("stranger%d-%d", i, s.said)
		events = append(events, parley.Event{
			Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(id), Time: time.Now(),
			Input: parley.Message{ID: id, Text: "Is anybody there?"},
		})
	}
	for group := range slices.Chunk(events, s.atOnce) {
		if _, err := s.store.Append(s.Context(), parley.Arrivals{Events: group}); err != nil {
			s.Fatal(err)
		}
		s.wait() // or the database has no time for what Meta brings
	}
}

// wait waits until all that was said was taken in.
func (s *strangers) wait() {
	s.Helper()
	limit := time.Now().Add(strangersWithin)
	for waiting := 1; waiting > 0; s.rest(strangersLook) {
		err := s.conn.QueryRow(s.Context(), `select count(*) from parley.inbox where convert_from(conv, 'utf8') like '%stranger%'`).Scan(&waiting)
		if err != nil || time.Now().After(limit) {
			s.Fatalf("%d things said wait after %s: %v", waiting, strangersWithin, err)
		}
	}
}

// live is how many conversations are in memory, on all nodes.
func (s *strangers) live() (n int) {
	for _, node := range s.nodes {
		n += node.metric(s.T, "parley_actors_live_conversations")
	}
	return n
}

// look sees that each thing took effect, once and in order.
func (s *strangers) look() {
	s.Helper()
	for i := 0; i < s.n; i += max(1, s.n/1000) {
		l, err := s.store.Load(s.Context(), s.conversation(i), 1)
		if err != nil {
			s.Fatal(err)
		}
		var seen, want []parley.EventKey
		for k := range s.said {
			want = append(want, parley.NewEventKey(fmt.Sprintf("stranger%d-%d", i, k+1)))
		}
		for _, k := range l.Snapshot.Seen {
			seen = append(seen, k.Key)
		}
		if !slices.Equal(seen, want) {
			s.Errorf("stranger %d: %d things took effect, want %d in their order", i, len(seen), s.said)
		}
	}
}
