package metatest

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"
)

// The bodies are written by hand into one buffer: at thousands a second the
// simulator must not take the processor away from the node that it measures.
// They are what Meta writes: non-ASCII as lowercase \u escapes, "/" escaped.

// bodyBytes is a guess at the size of a body, for its buffer.
func bodyBytes(updates []update) int {
	const envelope, each = 160, 400
	return envelope + each*len(updates)
}

// appendBody writes a webhook with all the updates, which are of one platform:
// an entry for each run of updates of one channel.
func (w *World) appendBody(b []byte, updates []update) []byte {
	index := w.channels[w.channelOf(updates[0])].index
	b = append(b, `{"object":"`...)
	b = append(b, [platforms]string{"page", "instagram", "whatsapp_business_account"}[index]...)
	b = append(b, `","entry":[`...)
	for i := 0; i < len(updates); {
		n := w.run(updates[i:])
		b = w.appendEntry(comma(b, i), updates[i:i+n])
		i += n
	}
	return append(b, `]}`...)
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

func (w *World) channelOf(u update) int32 { return w.people[w.person(u)].channel }

// run is how many of the first updates are of one channel.
func (w *World) run(updates []update) int {
	n := 1
	for n < len(updates) && w.channelOf(updates[n]) == w.channelOf(updates[0]) {
		n++
	}
	return n
}

func (w *World) appendEntry(b []byte, updates []update) []byte {
	c := &w.channels[w.channelOf(updates[0])]
	if c.index == onWhatsApp {
		return w.appendNumber(b, c, updates)
	}
	b = append(b, `{"id":"`...)
	b = append(b, c.ID...)
	b = append(b, `","time":`...)
	b = strconv.AppendInt(b, w.unixMilli(w.now), 10) // when it is sent, not when it happened
	b = append(b, `,"messaging":[`...)
	for i, u := range updates {
		b = comma(b, i)
		if u.receipt != nil {
			b = w.appendMessagingReceipt(b, c, u.receipt)
		} else {
			b = w.appendMessaging(b, c, u.message)
		}
	}
	return append(b, `]}`...)
}

// unixMilli is a time of the run in Meta's milliseconds.
func (w *World) unixMilli(ns int64) int64 { return w.start.Add(time.Duration(ns)).UnixMilli() }

// appendParties begins a messaging element, up to its payload.
func (w *World) appendParties(b []byte, from, to string, at int64) []byte {
	b = append(b, `{"sender":{"id":"`...)
	b = append(b, from...)
	b = append(b, `"},"recipient":{"id":"`...)
	b = append(b, to...)
	b = append(b, `"},"timestamp":`...)
	b = strconv.AppendInt(b, w.unixMilli(at), 10)
	return append(b, ',')
}

// appendMessaging writes a user's message on Messenger or Instagram.
func (w *World) appendMessaging(b []byte, c *Channel, i int32) []byte {
	r := &w.records[i]
	b = w.appendParties(b, w.people[w.userOf(i)].id, c.ID, r.due)
	if r.form == asPostback {
		b = append(b, `"postback":{"title":"Do it","payload":"`...)
		b = w.appendCommand(b, i)
		b = append(b, `","mid":"`...)
		b = w.appendMessageID(b, c.index, i)
		return append(b, `"}}`...)
	}
	b = append(b, `"message":{"mid":"`...)
	b = w.appendMessageID(b, c.index, i)
	if r.form == asReply {
		b = append(b, `","text":"Do it","quick_reply":{"payload":"`...)
		b = w.appendCommand(b, i)
		return append(b, `"}}}`...)
	}
	b = append(b, `","text":"`...)
	b = w.appendText(b, i)
	return append(b, `"}}`...)
}

// appendText writes the command with filler up to the configured length. One
// character in the middle is not ASCII, as a reminder to those who sign what
// they have parsed and written again.
func (w *World) appendText(b []byte, i int32) []byte {
	before := len(b)
	b = w.appendCommand(b, i)
	if w.cfg.TextBytes <= len(b)-before+1 {
		return b
	}
	b = append(b, ` \u00e4`...)
	for len(b)-before < w.cfg.TextBytes {
		b = append(b, 'x')
	}
	return b
}

// appendMessageID writes the id that Meta gave message i.
func (w *World) appendMessageID(b []byte, index int, i int32) []byte {
	return appendID(b, index, mix(w.cfg.Seed, uint64(i)), uint64(i))
}

// appendID writes a message id in the platform's manner.
func appendID(b []byte, index int, hi, lo uint64) []byte {
	var raw [16]byte
	for i := range 8 {
		raw[i], raw[8+i] = byte(hi>>(56-8*i)), byte(lo>>(56-8*i))
	}
	b = append(b, [platforms]string{"m_", "aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlE", "wamid.HBgLNDkxNTAwMDAwMDAVAgASGBQ"}[index]...)
	return hex.AppendEncode(b, raw[:])
}

// appendNumber writes the entry of a WhatsApp number: a change for each update,
// or one for a run of updates of the same sort. WhatsApp's entry has no time.
func (w *World) appendNumber(b []byte, c *Channel, updates []update) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, c.Account...)
	b = append(b, `","changes":[`...)
	for i := 0; i < len(updates); {
		n := 1
		for together := w.network.IntN(2) == 0; together && i+n < len(updates) &&
			updates[i+n].class() == updates[i].class(); n++ {
		}
		b = w.appendChange(comma(b, i), c, updates[i:i+n])
		i += n
	}
	return append(b, `]}`...)
}

func (w *World) appendChange(b []byte, c *Channel, updates []update) []byte {
	b = append(b, `{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"`...)
	b = append(b, c.display...)
	b = append(b, `","phone_number_id":"`...)
	b = append(b, c.ID...)
	if updates[0].receipt != nil {
		b = append(b, `"},"statuses":[`...)
		for i, u := range updates {
			b = w.appendStatus(comma(b, i), u.receipt)
		}
		return append(b, `]},"field":"messages"}`...)
	}
	b = append(b, `"},"contacts":[`...)
	for i, u := range updates {
		b = appendContact(comma(b, i), &w.people[w.userOf(u.message)])
	}
	b = append(b, `],"messages":[`...)
	for i, u := range updates {
		b = w.appendWhatsApp(comma(b, i), u.message)
	}
	return append(b, `]},"field":"messages"}`...)
}

func appendContact(b []byte, p *person) []byte {
	b = append(b, `{"profile":{"name":"Zo\u00eb"}`...)
	if p.id != "" || p.emptyID {
		b = appendField(b, `,"wa_id":`, p.id)
	}
	if p.bsuid != "" {
		b = appendField(b, `,"user_id":`, p.bsuid)
	}
	return append(b, '}')
}

// appendWhatsApp writes a user's message on WhatsApp.
func (w *World) appendWhatsApp(b []byte, i int32) []byte {
	r, p := &w.records[i], &w.people[w.userOf(i)]
	b = append(b, `{"id":"`...)
	b = w.appendMessageID(b, onWhatsApp, i)
	b = append(b, `","timestamp":"`...)
	const second = 1000
	b = strconv.AppendInt(b, w.unixMilli(r.due)/second, 10)
	b = append(b, '"')
	if p.id != "" || p.emptyID {
		b = appendField(b, `,"from":`, p.id)
	}
	if p.bsuid != "" {
		b = appendField(b, `,"from_user_id":`, p.bsuid)
	}
	if r.form == asText {
		b = append(b, `,"type":"text","text":{"body":"`...)
		b = w.appendText(b, i)
		return append(b, `"}}`...)
	}
	b = append(b, `,"type":"interactive","interactive":{"type":"button_reply","button_reply":{"id":"`...)
	b = w.appendCommand(b, i)
	return append(b, `","title":"Do it"}}}`...)
}

// appendField writes a member whose value needs escaping, or may.
func appendField(b []byte, name, value string) []byte {
	return appendString(append(b, name...), value)
}

// appendString writes a JSON string as Meta escapes it.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\' || r == '/':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = appendUnit(b, uint16(r))
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			b = appendUnit(b, uint16(0xd800+r>>10))
			b = appendUnit(b, uint16(0xdc00+r&0x3ff))
		default:
			b = appendUnit(b, uint16(r))
		}
	}
	return append(b, '"')
}

func appendUnit(b []byte, u uint16) []byte {
	b = append(b, `\u`...)
	return hex.AppendEncode(b, []byte{byte(u >> 8), byte(u)})
}
