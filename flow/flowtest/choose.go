package flowtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parleychat/parley"
)

// offer is something that can be chosen, and what comes back of it.
type offer struct {
	title, payload string
	shown          string
	input          parley.Input // nil: nothing, a page opens
}

// offers are what a message lets the contact choose from.
func offers(kind parley.ChannelKind, s *parley.Send) []offer {
	var all []offer
	for _, q := range s.QuickReplies {
		payload := orTitle(q.Payload, q.Title)
		all = append(all, offer{q.Title, payload, shownReply(q), parley.Message{Text: q.Title, Payload: payload}})
	}
	buttons := slices.Clone(s.Buttons)
	for i := range s.Cards {
		buttons = append(buttons, s.Cards[i].Buttons...)
	}
	for _, b := range buttons {
		all = append(all, offerOf(kind, b))
	}
	if s.List != nil {
		for _, section := range s.List.Sections {
			for _, r := range section.Rows {
				payload := orTitle(r.Payload, r.Title)
				all = append(all, offer{r.Title, payload, choice("[", r.Title, "", "]"), parley.Message{Text: r.Title, Payload: payload}})
			}
		}
	}
	return append(all, templateOffers(s.Template)...)
}

func offerOf(kind parley.ChannelKind, b parley.Button) offer {
	out := offer{title: b.Title, payload: orTitle(b.Payload, b.Title), shown: shownButton(b)}
	switch {
	case b.URL != "":
	case kind == parley.WhatsApp:
		out.input = parley.Message{Text: out.title, Payload: out.payload}
	default:
		out.input = parley.Postback{Title: out.title, Payload: out.payload}
	}
	return out
}

// templateOffers are the buttons of a template, of which nobody here knows the titles.
func templateOffers(t *parley.Template) []offer {
	var all []offer
	if t == nil {
		return nil
	}
	for i := range t.Components {
		for _, p := range t.Components[i].Parameters {
			if p.Payload != "" {
				all = append(all, offer{p.Payload, p.Payload, choice("[", p.Payload, "", "]"), parley.Message{Text: p.Payload, Payload: p.Payload}})
			}
		}
	}
	return all
}

func orTitle(payload, title string) string {
	if payload == "" {
		return title
	}
	return payload
}

// choose is what comes of pressing what was offered under a title or a payload, in the
// last message that did so.
func (k *talk) choose(kind parley.ChannelKind, title string, payload *string) (parley.Input, error) {
	var last []string
	for i := range slices.Backward(k.sent) {
		all := offers(kind, &k.sent[i].Send)
		for _, o := range all {
			fits := o.title == title || o.payload == title
			if payload != nil {
				fits = o.title == title && o.payload == *payload
			}
			switch {
			case fits && o.input == nil:
				return nil, fmt.Errorf("%s opens a page: nothing comes back of it", o.shown)
			case fits:
				return o.input, nil
			}
			if i == len(k.sent)-1 {
				last = append(last, o.shown)
			}
		}
	}
	if len(last) == 0 {
		return nil, fmt.Errorf("[%s] was not offered to %s, nor anything by the last message", title, k.user)
	}
	return nil, fmt.Errorf("[%s] was not offered to %s; the last message offered %s", title, k.user, strings.Join(last, " "))
}
