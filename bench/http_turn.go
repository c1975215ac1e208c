package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/parleychat/parley/bench/rounds"
)

const (
	// httpUnitsMax is what a turn over HTTP may cost the node beyond one in Go.
	httpUnitsMax = 6
	// httpShare is the share of the rate at which it is measured: a bot, the simulator
	// and the node have the machine in common.
	httpShare = 0.25
)

// httpTurn is the turn of a bot over HTTP on this machine, beside the same turn in Go
// and the bare server: all three at one rate, one after the other.
func (c config) httpTurn(ctx context.Context) (figures []rounds.Figure, err error) {
	c.rate, c.users = c.rate*httpShare, max(1, int(float64(c.users)*httpShare))
	unit, err := c.unit(ctx)
	if err != nil {
		return nil, err
	}
	own, err := c.turn(storeEmbedded)(ctx)
	if err != nil {
		return nil, fmt.Errorf("the turn in Go: %w", err)
	}
	b, err := serveLoopback(ctx, "a bot", http.HandlerFunc(tallyOverHTTP))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	c.bot = b.url()
	over, err := c.turnOf(storeEmbedded, "turn-over-http", c.simulation())(ctx)
	if err != nil {
		return nil, fmt.Errorf("the turn over HTTP: %w", err)
	}
	return []rounds.Figure{
		over[0],
		{Name: "in Go", Unit: own[0].Unit, Value: own[0].Value},
		{Name: "beyond", Unit: "units", Value: (over[0].Value - own[0].Value) / unit[0].Value, AtMost: httpUnitsMax},
	}, nil
}

// counted is what the bot keeps of a conversation.
type counted struct {
	Commands int `json:"commands"`
}

// tallyOverHTTP does what the tally bot does with messages: it answers "say K ..." with
// "said K #N".
func tallyOverHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		State counted
		Input struct{ Input struct{ Text string } }
	}
	err := json.NewDecoder(r.Body).Decode(&asked)
	words := strings.Fields(asked.Input.Input.Text)
	if err != nil || len(words) < 2 || words[0] != "say" {
		http.Error(w, "not a command", http.StatusBadRequest)
		return
	}
	asked.State.Commands++
	_, _ = fmt.Fprintf(w, `{"state":{"commands":%d},"effects":[{"effect":"send","value":{"text":"said %s #%d"}}]}`, // who has gone needs no answer
		asked.State.Commands, words[1], asked.State.Commands)
}
