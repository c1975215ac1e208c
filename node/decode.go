package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
	"github.com/parleychat/parley/meta"
)

type decodeCommand struct {
	AppID string `name:"app-id" help:"Meta's id of the app, to tell its own echoes from those of other apps."`
	Brand string `default:"brand" help:"Brand to show the channels under."`
}

// decoded is one line of the output: what became of one update.
type decoded struct {
	Platform string         `json:"platform"`
	As       string         `json:"as"`   // event, receipt, quarantined
	Kind     string         `json:"kind"` // of the event, or the receipt's status
	Channel  string         `json:"channel,omitempty"`
	Contact  parley.Contact `json:"contact,omitempty"`
	Contacts int            `json:"contact_keys,omitempty"` // if there are several
	Key      string         `json:"key,omitempty"`
	Time     *time.Time     `json:"time,omitempty"`
	Cause    string         `json:"cause,omitempty"` // why it would be quarantined
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
	got, err := meta.Decode(body, meta.Options{
		OwnAppID: c.AppID, Fallback: parley.Channel{Brand: parley.Brand(c.Brand), Kind: parley.Messenger, ID: "unknown-object"},
		Resolve: func(kind parley.ChannelKind, id string) (parley.Channel, bool) {
			return parley.Channel{Brand: parley.Brand(c.Brand), Kind: kind, ID: id}, true
		},
	})
	if err != nil {
		return fmt.Errorf("decode: %w; a node would keep it in quarantine if it were signed", err)
	}
	var errs []error
	enc := json.NewEncoder(sys.out)
	for i := range got.Events {
		errs = append(errs, enc.Encode(showEvent(got.Object, &got.Events[i])))
	}
	for i := range got.Receipts {
		errs = append(errs, enc.Encode(showReceipt(got.Object, &got.Receipts[i])))
	}
	for _, q := range got.Quarantined {
		errs = append(errs, enc.Encode(decoded{Platform: platform(got.Object), As: "quarantined", Kind: string(q.Kind), Channel: q.ChannelID, Cause: q.Cause}))
	}
	return errors.Join(errs...)
}

func showEvent(object string, e *parley.Event) decoded {
	d := decoded{
		Platform: platform(object), As: "event", Kind: e.Input.Kind(), Channel: e.Channel.String(),
		Contact: e.Contacts[0], Key: e.Key.String(), Time: shown(e.Time),
	}
	if len(e.Contacts) > 1 {
		d.Contacts = len(e.Contacts)
	}
	return d
}

func showReceipt(object string, r *parley.Receipt) decoded {
	return decoded{
		Platform: platform(object), As: "receipt", Kind: string(r.Status), Channel: r.Channel.String(),
		Contact: r.Contact, Key: r.ProviderID, Time: shown(r.Time),
	}
}

func shown(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func platform(object string) string {
	switch object {
	case "page":
		return "messenger"
	case "instagram":
		return "instagram"
	case "whatsapp_business_account":
		return "whatsapp"
	}
	return "unknown"
}
