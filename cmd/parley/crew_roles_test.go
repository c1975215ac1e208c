package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/console"
)

// One node takes webhooks, another runs bots, a third one sends: events, replies and
// timers find their way.
func TestRolesApart(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	roles := [crewSize][]string{{"ingress"}, {"actors", "console"}, {"egress"}}
	_, _, nodes := threeNodes(t, g, func(i int, c configuration) configuration { return c.with("roles", roles[i]) })
	for i := range 10 {
		user := fmt.Sprintf("u%d", i)
		nodes[0].tell(t, user, user+"-1", "say a")
		nodes[0].tell(t, user, user+"-2", "say b")
		g.heard(t, user, "said a #1")
		g.heard(t, user, "said b #2")
	}
	if n := nodes[1].metric(t, "parley_actors_turns_total"); n == 0 {
		t.Error("the node with actors took no turn")
	}
	for _, i := range []int{0, 2} {
		if n := nodes[i].metric(t, "parley_actors_turns_total"); n > 0 {
			t.Errorf("node %d took %d turns", i+1, n)
		}
	}
	// Only the node with the role console has the API.
	for i, want := range []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusNotFound} {
		if status, _ := nodes[i].look(t, "/api/cluster/members"); status != want {
			t.Errorf("the API of node %d answers %d, want %d", i+1, status, want)
		}
	}
	for i := range nodes { // the last of each role has nobody to wait for
		began := time.Now()
		nodes[i].stop(t)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("node %d took %v to stop", i+1, took)
		}
	}
}

// An operator looks at three nodes and drains one, from another.
func TestOperatorDrains(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	houses, _, nodes := threeNodes(t, g, func(_ int, c configuration) configuration { return c })
	_, admin := nodes[0].addresses()
	at := []string{"--admin", admin, "--token", "file:" + filepath.Join(houses[0].dir, clustertest.GossipKeyFile)}
	cluster := func(code int, args ...string) string {
		t.Helper()
		e := run(t, "", append(append([]string{"cluster"}, args...), at...)...)
		e.want(t, code)
		return e.out
	}
	nodes[0].tell(t, "u1", "1", "say a")
	g.heard(t, "u1", "said a #1")
	for _, name := range []string{"node1-", "node2-", "node3-"} {
		if out := cluster(0, "members"); !strings.Contains(out, name) {
			t.Errorf("members lacks %s:\n%s", name, out)
		}
	}
	var s console.Status
	if err := json.Unmarshal([]byte(cluster(0, "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	held, live := 0, 0
	for _, m := range s.Members {
		held, live = held+m.HeldShards, live+m.LiveConversations
	}
	if !s.ViewsAgree || s.Alone || held != 4096 || live > 1 || len(s.Warnings) > 0 || s.Backlog == nil {
		t.Errorf("status: %+v", s)
	}
	if out := cluster(0, "where", "acme/messenger/"+pageID+"/user:u1"); !strings.Contains(out, "node") {
		t.Errorf("where:\n%s", out)
	}
	cluster(1, "drain", "nobody")
	cluster(0, "drain", "node2")
	if code := nodes[1].left(t); code != 0 {
		t.Errorf("the drained node ended with %d", code)
	}
	await(t, "the others have it all", func() bool {
		return nodes[0].metric(t, "parley_actors_held_shards")+nodes[2].metric(t, "parley_actors_held_shards") == 4096
	})
	nodes[2].tell(t, "u1", "2", "say b")
	g.heard(t, "u1", "said b #2")
}
