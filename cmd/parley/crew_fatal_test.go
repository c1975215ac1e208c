package main_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley/cluster/clustertest"
)

// An event that takes its process down, and would follow its conversation from node
// to node: at most two processes die of it, whether those that died are started again
// at once or stay away until others have taken over.
func TestFatalEventAmongNodes(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"StartedAgain": 0, "StayAway": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fatalEvent(t, away)
		})
	}
}

// threeNodes starts nodes with a fateful bot that see each other.
func threeNodes(t *testing.T, g *graph, adjust func(i int, c configuration) configuration) (houses [crewSize]house, configs [crewSize]configuration, nodes [crewSize]*instance) {
	t.Helper()
	url := cluster.Database(t)
	at := func(int) string { return freeAddress(t) }
	for i := range crewSize {
		houses[i] = newHouse(t)
		houses[i].write(t, "crm", "Bearer of-the-crm")
		if err := clustertest.WriteCredentials(houses[i].dir, time.Now()); err != nil {
			t.Fatal(err)
		}
		houses[i].copy(t, houses[0], clustertest.AuthorityFile, clustertest.CertificateFile, clustertest.KeyFile, clustertest.GossipKeyFile)
		configs[i] = adjust(i, configured(g.URL, channel("messenger", pageID, "fateful")).on(t, houses[i], url).among(i, at))
		configs[i] = configs[i].joining(configs[0])
		nodes[i] = houses[i].start(t, asFateful, configs[i])
	}
	await(t, "the nodes agree", func() bool {
		shards := 0
		for _, n := range nodes {
			shards += n.metric(t, "parley_actors_held_shards")
		}
		return shards == 4096 && nodes[0].metric(t, "parley_cluster_members") == crewSize
	})
	return houses, configs, nodes
}

func fatalEvent(t *testing.T, away time.Duration) {
	t.Helper()
	g := newGraph(t)
	houses, configs, nodes := threeNodes(t, g, func(_ int, c configuration) configuration { return c })
	nodes[0].tell(t, "u1", "1", "say a")
	g.heard(t, "u1", "said a #1")
	nodes[0].tell(t, "u1", "2", "fall")
	deaths, gone := 0, [crewSize]bool{}
	// A minute is waited with what a silent process has noted, after the others are missed.
	awaitFor(t, 2*patience, "the event is given up", func() bool {
		given := false
		for i, n := range nodes {
			if gone[i] {
				continue
			}
			select {
			case <-n.ended:
				deaths++
				if away > 0 {
					gone[i] = true
					continue
				}
				nodes[i] = houses[i].launch(t, asFateful, configs[i])
			default:
				if _, admin := n.addresses(); admin != "" {
					_, text := n.look(t, "/metrics")
					given = given || text != "" && sum(t, text, "parley_store_dead_letters") == 1
				}
			}
		}
		return given || deaths == crewSize
	})
	if deaths < 1 || deaths > 2 {
		t.Fatalf("%d processes died of one event", deaths)
	}
	for i, n := range nodes {
		if gone[i] {
			continue
		}
		if _, admin := n.addresses(); admin == "" {
			n.serving(t, 1)
		}
		n.tell(t, "u1", "3", "say b")
		g.heard(t, "u1", "said b #2")
		break
	}
}
