package node

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/meta"
)

// devPlayCommand makes a transcript of a history: a process of its own, since the bot is
// in this program and not in that of parley dev.
type devPlayCommand struct {
	Bot  string `env:"-" help:"The bot that plays it; the program's first if empty."`
	User string `env:"-" required:"" help:"Name of the user in it."`
	Kind string `env:"-" required:"" help:"messenger, instagram or whatsapp."`
}

// historyBytes bounds what is read: more is no transcript.
const historyBytes = 64 << 20

// Run reads records from standard input, a JSON list, and prints the transcript.
func (c devPlayCommand) Run(sys *system) error {
	name, err := servingBot(c.Bot, sys.bots)
	if err != nil {
		return err
	}
	var bot parley.Bot
	for _, b := range sys.bots {
		if b.Name == name {
			bot = b
		}
	}
	var records []json.RawMessage
	if err := json.NewDecoder(io.LimitReader(sys.in, historyBytes)).Decode(&records); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	history := make([][]byte, len(records))
	for i, r := range records {
		history[i] = r
	}
	script, err := flowtest.FromHistory(c.User+".txt", c.User, parley.ChannelKind(c.Kind), history)
	if err != nil {
		return err
	}
	kit := flowtest.Kit{Bot: bot, Encodes: func(o *parley.Outgoing) error {
		_, _, err := meta.EncodeSend(o, meta.Sending{})
		return err
	}}
	played, err := kit.Play(script)
	if err != nil {
		return fmt.Errorf("play it: %w", err)
	}
	_, err = fmt.Fprint(sys.out, played.String())
	return err
}
