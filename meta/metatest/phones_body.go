package metatest

import (
	"encoding/json"
	"strconv"
	"time"
)

// object is a JSON object that is written key by key.
type object = map[string]any

// messageBody is the webhook of what the owner of a phone did.
func (p *Phones) messageBody(f *Phone, b *Bubble, at int64) []byte {
	if f.Platform == WhatsApp {
		m := p.numberMessage(f, b)
		m["id"], m["from"], m["timestamp"] = b.ID, f.ID, p.seconds(at)
		return p.numberBody(f, object{
			"contacts": []object{{"profile": object{"name": f.Name}, "wa_id": f.ID}}, "messages": []object{m},
		})
	}
	if b.Act.Tap == "button" {
		return p.messagingBody(f, at, "postback", object{"mid": b.ID, "title": b.Act.Text, "payload": b.Act.Payload})
	}
	return p.messagingBody(f, at, "message", p.pageMessage(b))
}

func (p *Phones) seconds(at int64) string {
	return strconv.FormatInt(p.w.start.Add(time.Duration(at)).Unix(), 10)
}

// written is the JSON of what is made of strings and numbers only.
func written(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a NaN, which Act.check has refused
	}
	return b
}

// messagingBody is a webhook of Messenger or Instagram.
func (p *Phones) messagingBody(f *Phone, at int64, name string, content object) []byte {
	when := p.w.unixMilli(at)
	return written(object{
		"object": map[Platform]string{Messenger: "page", Instagram: "instagram"}[f.Platform],
		"entry": []object{{"id": f.Channel, "time": when, "messaging": []object{{
			"sender": object{"id": f.ID}, "recipient": object{"id": f.Channel}, "timestamp": when, name: content,
		}}}},
	})
}

// numberBody is a webhook of WhatsApp.
func (p *Phones) numberBody(f *Phone, value object) []byte {
	c := &p.w.channels[p.at(f)]
	value["messaging_product"] = "whatsapp"
	value["metadata"] = object{"display_phone_number": c.display, "phone_number_id": c.ID}
	return written(object{
		"object": "whatsapp_business_account",
		"entry":  []object{{"id": c.Account, "changes": []object{{"field": "messages", "value": value}}}},
	})
}

// pageMessage is the message member of Messenger's and Instagram's webhooks.
func (p *Phones) pageMessage(b *Bubble) object {
	a, m := b.Act, object{"mid": b.ID}
	switch {
	case a.Media != nil:
		kind := a.Media.Kind
		if kind == "document" {
			kind = "file"
		}
		m["attachments"] = []object{{"type": kind, "payload": object{"url": p.cfg.Media + a.Media.Name}}}
	case a.Place != nil:
		m["attachments"] = []object{{
			"type": "location", "title": a.Place.Name,
			"payload": object{"coordinates": object{"lat": a.Place.Latitude, "long": a.Place.Longitude}},
		}}
	default:
		m["text"] = a.Text
	}
	switch {
	case a.Tap != "":
		m["quick_reply"] = object{"payload": a.Payload}
	case a.About != "":
		m["reply_to"] = object{"mid": a.About}
	}
	return m
}

// numberMessage is an element of messages in WhatsApp's webhooks.
func (p *Phones) numberMessage(f *Phone, b *Bubble) object {
	a, m := b.Act, object{}
	content := func(kind string, value object) { m["type"], m[kind] = kind, value }
	reply := object{"id": a.Payload, "title": a.Text}
	switch {
	case a.Media != nil:
		content(a.Media.Kind, p.numberFile(b.ID, a.Media))
	case a.Place != nil:
		content("location", object{"latitude": a.Place.Latitude, "longitude": a.Place.Longitude, "name": a.Place.Name, "address": a.Place.Address})
	case a.Tap == "list":
		content("interactive", object{"type": "list_reply", "list_reply": reply})
	case a.Tap == "template":
		content("button", object{"payload": a.Payload, "text": a.Text})
	case a.Tap != "":
		content("interactive", object{"type": "button_reply", "button_reply": reply})
	default:
		content("text", object{"body": a.Text})
	}
	if a.About != "" {
		from := f.ID
		if about := f.bubble(a.About); about != nil && !about.Mine {
			from = p.w.channels[p.at(f)].display
		}
		m["context"] = object{"from": from, "id": a.About}
	}
	return m
}

func (p *Phones) numberFile(id string, file *PhoneFile) object {
	mime := map[string]string{"image": "image/png", "audio": "audio/ogg; codecs=opus", "video": "video/mp4", "document": "application/pdf", "sticker": "image/webp"}
	o := object{
		"id": strconv.FormatUint(mix(p.cfg.Seed, uint64(len(id))+p.sent)>>1, 10), "mime_type": mime[file.Kind],
		"sha256": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=", "url": p.cfg.Media + file.Name,
	}
	if file.Kind == "document" {
		o["filename"] = file.Name
	}
	return o
}

// reactionBody is the webhook of a reaction.
func (p *Phones) reactionBody(f *Phone, a *Act, at int64) []byte {
	if f.Platform == WhatsApp {
		id := p.newID(f)
		return p.numberBody(f, object{
			"contacts": []object{{"profile": object{"name": f.Name}, "wa_id": f.ID}},
			"messages": []object{{
				"id": id, "from": f.ID, "timestamp": p.seconds(at), "type": "reaction",
				"reaction": object{"message_id": a.About, "emoji": a.Emoji},
			}},
		})
	}
	r := object{"mid": a.About, "action": "unreact"}
	if a.Emoji != "" {
		r = object{"mid": a.About, "action": "react", "emoji": a.Emoji, "reaction": reactionName(a.Emoji)}
	}
	return p.messagingBody(f, at, "reaction", r)
}

// reactionName is Messenger's word for an emoji.
func reactionName(emoji string) string {
	name := map[string]string{"❤": "love", "😆": "smile", "😮": "wow", "😢": "sad", "😠": "angry", "👍": "like", "👎": "dislike"}[emoji]
	if name == "" {
		return "other"
	}
	return name
}

// receiptBody is the webhook of an echo or a status.
func (p *Phones) receiptBody(f *Phone, r *receipt) []byte {
	c := &p.w.channels[p.at(f)]
	if c.index == onWhatsApp {
		return p.numberBody(f, object{"statuses": []json.RawMessage{p.w.appendStatus(nil, r)}})
	}
	b := append([]byte(`{"object":"`), [platforms]string{"page", "instagram"}[c.index]...)
	b = append(append(b, `","entry":[{"id":"`...), c.ID...)
	b = append(b, `","time":`...)
	b = strconv.AppendInt(b, p.w.unixMilli(p.w.now), 10)
	b = append(b, `,"messaging":[`...)
	b = p.w.appendMessagingReceipt(b, c, r)
	return append(b, `]}]}`...)
}
