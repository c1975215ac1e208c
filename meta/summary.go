package meta

import (
	"time"

	"github.com/parleychat/parley"
)

// Summary is one line about one thing that a body held, for people and for
// tools. It has no text of a message.
type Summary struct {
	Platform string         `json:"platform"` // the channel's kind; the object, if there is no channel
	Kind     string         `json:"kind"`     // the input's, or receipt, or quarantined
	Status   string         `json:"status,omitempty"`
	Channel  string         `json:"channel,omitempty"` // Meta's id of it
	Contact  parley.Contact `json:"contact,omitempty"`
	Key      string         `json:"key,omitempty"`
	ID       string         `json:"id,omitempty"` // Meta's, of the message that a receipt is about
	Time     *time.Time     `json:"time,omitempty"`
	Cause    string         `json:"cause,omitempty"` // of a quarantined update
}

// Summaries are the events, then the receipts, then what would be quarantined.
func (d *Decoded) Summaries() []Summary {
	out := make([]Summary, 0, len(d.Events)+len(d.Receipts)+len(d.Quarantined))
	for i := range d.Events {
		e := &d.Events[i]
		out = append(out, Summary{
			Platform: d.platform(e), Kind: e.Input.Kind(), Channel: e.Channel.ID, Contact: e.Contacts[0],
			Key: e.Key.String(), Time: known(e.Time),
		})
	}
	for i := range d.Receipts {
		r := &d.Receipts[i]
		out = append(out, Summary{
			Platform: string(r.Channel.Kind), Kind: "receipt", Status: string(r.Status), Channel: r.Channel.ID,
			Contact: r.Contact, ID: r.ProviderID, Time: known(r.Time),
		})
	}
	for i := range d.Quarantined {
		q := &d.Quarantined[i]
		platform := string(q.Kind)
		if platform == "" {
			platform = d.Object
		}
		out = append(out, Summary{Platform: platform, Kind: "quarantined", Channel: q.ChannelID, Cause: q.Cause})
	}
	return out
}

// platform is the kind of the event's channel, or the object if it isn't one of
// the three that are about channels: its channel is then only a fallback.
func (d *Decoded) platform(e *parley.Event) string {
	switch d.Object {
	case objectPage, objectInstagram, objectWhatsApp:
		return string(e.Channel.Kind)
	}
	return d.Object
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
