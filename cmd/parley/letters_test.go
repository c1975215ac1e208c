package main_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/console"
)

const lettersToken = "a-token-of-the-operator"

// postbox is parley deadletters, at a node.
type postbox struct {
	t  *testing.T
	at []string
}

func (n *instance) postbox(t *testing.T, tokenFile string) postbox {
	t.Helper()
	_, admin := n.addresses()
	return postbox{t: t, at: []string{"--admin", admin, "--token", "file:" + tokenFile}}
}

func (p postbox) run(code int, args ...string) ended {
	p.t.Helper()
	e := run(p.t, "", append(append([]string{"deadletters"}, args...), p.at...)...)
	e.want(p.t, code)
	return e
}

// list waits until there are so many letters, and returns them, the oldest first.
func (p postbox) list(n int) (found []console.DeadLetter) {
	p.t.Helper()
	await(p.t, "the dead letters are there", func() bool {
		var page struct {
			DeadLetters []console.DeadLetter `json:"dead_letters"`
		}
		if err := json.Unmarshal([]byte(p.run(0, "list", "--oldest", "--json").out), &page); err != nil {
			p.t.Fatal(err)
		}
		found = page.DeadLetters
		return len(found) == n
	})
	return found
}

// retryMessages retries the messages and nothing else, as an event's turn would tell
// the sender, too; and sees that it doesn't take until the sender looks by itself.
func (p postbox) retryMessages(handled func()) {
	p.t.Helper()
	p.run(0, "retry", "--kind", "message")
	retried := time.Now()
	handled()
	if took := time.Since(retried); took > 15*time.Second { // unless it is told, the sender looks each half minute
		p.t.Errorf("the message was handed over %v after its retry", took)
	}
}

// idle waits until nothing waits in the store, by what /backlog counts: of a database
// the metrics are estimates.
func (n *instance) idle(t *testing.T) {
	t.Helper()
	await(t, "nothing waits", func() bool {
		b, ok := n.backlog(t)
		return ok && b.Pending == 0 && b.Unsent == 0
	})
}

// stores are the two that a node may have.
func stores(t *testing.T, test func(t *testing.T, h house, c func(graphURL string) configuration)) {
	t.Helper()
	for _, store := range []string{"Embedded", "Postgres"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.write(t, "admin", lettersToken)
			url := ""
			if store == "Postgres" {
				url = cluster.Database(t)
			}
			test(t, h, func(graphURL string) configuration {
				c := configured(graphURL, channel("messenger", pageID, "fateful")).with("admin_token", "file:admin")
				if url != "" {
					c = c.on(t, h, url)
				}
				return c
			})
		})
	}
}

// An event that the bot fails on is a letter. Retried with the same bot it is one
// again; with a bot that was mended it takes effect, once, late and out of its order.
func TestDeadEvent(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, h house, config func(string) configuration) {
		t.Helper()
		g := newGraph(t)
		n := h.start(t, asFateful, config(g.URL))
		p := n.postbox(t, filepath.Join(h.dir, "admin"))
		n.tell(t, "u1", "1", "panic")
		n.tell(t, "u1", "2", "say a")
		g.heard(t, "u1", "said a #1")
		first := p.list(1)[0]
		if first.Kind != "event" || first.What != "message" || first.Conversation != "acme/messenger/"+pageID+"/user:u1" || !strings.HasPrefix(first.Cause, "panic: ") {
			t.Errorf("letter %+v", first)
		}
		if e := p.run(0, "show", first.ID); !strings.Contains(e.out, `"text": "panic"`) {
			t.Errorf("show:\n%s", e.out)
		}
		p.run(0, "retry", first.ID)
		await(t, "it is a letter again", func() bool { return p.list(1)[0].ID != first.ID })
		p.run(1, "retry", first.ID)
		p.run(1, "drop", first.ID)
		n.stop(t)

		n = h.start(t, asMended, config(g.URL))
		p = n.postbox(t, filepath.Join(h.dir, "admin"))
		p.run(0, "retry", "--cause", "panic:")
		g.heard(t, "u1", "said mended #2, late: true")
		n.tell(t, "u1", "1", "panic") // Meta delivers it again: it is known
		n.tell(t, "u1", "3", "say b")
		g.heard(t, "u1", "said b #3")
		n.idle(t)
		if d := cmp.Diff([]string{"said a #1", "said mended #2, late: true", "said b #3"}, g.texts("u1")); d != "" {
			t.Error(d)
		}
		p.list(0)
		if woken := n.metric(t, "parley_actors_woken_total"); woken > 0 {
			t.Errorf("the sweeper found %d conversations", woken)
		}
		n.stop(t)
	})
}

// A message that Meta refuses is a letter with Meta's words. Retried it is sent once,
// behind what was decided meanwhile.
func TestDeadMessage(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, h house, config func(string) configuration) {
		t.Helper()
		g := newGraph(t)
		g.refuse("said no")
		n := h.start(t, asFateful, config(g.URL))
		p := n.postbox(t, filepath.Join(h.dir, "admin"))
		n.tell(t, "u1", "1", "say no")
		n.tell(t, "u1", "2", "say nothing")
		n.tell(t, "u1", "3", "say a")
		g.heard(t, "u1", "said a #3")
		letters := p.list(2)
		for _, d := range letters {
			if d.Kind != "message" || d.What != "send" || !strings.Contains(d.Cause, refusal) || !strings.Contains(d.Cause, "551") {
				t.Errorf("letter %+v", d)
			}
		}
		if e := p.run(0, "list", "--kind", "message"); !strings.Contains(e.out, "This person isn't available") || strings.Contains(e.out, "said no") {
			t.Errorf("list:\n%s", e.out)
		}
		p.run(0, "drop", letters[1].ID)
		p.retryMessages(func() { // Meta refuses it once more
			await(t, "it is a letter again", func() bool { return p.list(1)[0].Time.After(letters[0].Time) })
		})
		g.refuse("")
		p.run(0, "retry", "--all")
		g.heard(t, "u1", "said no #1")
		n.tell(t, "u1", "4", "say b")
		g.heard(t, "u1", "said b #4")
		n.idle(t)
		if d := cmp.Diff([]string{"said a #3", "said no #1", "said b #4"}, g.texts("u1")); d != "" {
			t.Error(d)
		}
		p.list(0)
		for _, words := range []string{"dead letter dropped", "dead letter retried", letters[1].ID} {
			if !strings.Contains(n.logged(), words) {
				t.Errorf("the log lacks %q", words)
			}
		}
		if strings.Contains(n.logged(), "said no") {
			t.Error("the log has the text of a message")
		}
		n.stop(t)
	})
}

// The node that is asked needn't be the one that handles the event, nor the one that
// sends the message.
func TestDeadLettersOfACluster(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	roles := [crewSize][]string{{"ingress", "console"}, {"actors"}, {"egress"}}
	houses, configs, nodes := threeNodes(t, g, func(i int, c configuration) configuration { return c.with("roles", roles[i]) })
	p := nodes[0].postbox(t, filepath.Join(houses[0].dir, clustertest.GossipKeyFile))
	g.refuse("said no")
	nodes[0].tell(t, "u1", "1", "panic")
	nodes[0].tell(t, "u1", "2", "say no")
	p.list(2)
	g.refuse("")
	nodes[1].stop(t)
	nodes[1] = houses[1].start(t, asMended, configs[1])
	nodes[0].tell(t, "u2", "3", "say a") // its conversations are served again
	g.heard(t, "u2", "said a #1")
	p.retryMessages(func() { g.heard(t, "u1", "said no #1") })
	p.run(0, "retry", "--all")
	g.heard(t, "u1", "said mended #2, late: true")
	p.list(0)
	if texts := g.texts("u1"); len(texts) != 2 || !slices.Contains(texts, "said no #1") {
		t.Errorf("u1 was told %q", texts)
	}
	for _, n := range nodes {
		n.stop(t)
	}
}
