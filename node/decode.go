package node

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
	"github.com/parleychat/parley/meta"
)

type decodeCommand struct {
	AppID string `name:"app-id" help:"Meta's id of the app, to tell its own echoes from those of other apps."`
}

// Run decodes one body as a node would that knows every channel, and prints a
// line for each update. No text of a message is printed.
func (c decodeCommand) Run(sys *system) error {
	body, err := io.ReadAll(io.LimitReader(sys.in, ingress.DefaultMaxBodyBytes+1))
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	if len(body) > ingress.DefaultMaxBodyBytes {
		return fmt.Errorf("body of more than %d bytes: a node would answer 413", ingress.DefaultMaxBodyBytes)
	}
	const anyBrand = "brand"
	got, err := meta.Decode(body, meta.Options{
		OwnAppID: c.AppID, Fallback: parley.Channel{Brand: anyBrand, Kind: parley.Messenger, ID: "unknown"},
		Resolve: func(kind parley.ChannelKind, id string) (parley.Channel, bool) {
			return parley.Channel{Brand: anyBrand, Kind: kind, ID: id}, true
		},
	})
	if err != nil {
		return fmt.Errorf("decode: %w; a node would keep it in quarantine if it were signed", err)
	}
	enc := json.NewEncoder(sys.out)
	for _, s := range got.Summaries() {
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("write to standard output: %w", err)
		}
	}
	return nil
}
