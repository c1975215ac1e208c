package metatest

import (
	"strconv"
	"time"
)

// receiptKind is a sort of news about a send.
type receiptKind uint8

const (
	echo receiptKind = iota
	sent
	delivered
	read
	undelivered // WhatsApp's "failed"
)

// receipt is what Meta reports about an accepted send: its echo, or one of its
// statuses.
type receipt struct {
	user int32
	kind receiptKind
	at   int64  // when it happened
	mid  string // id of the send
	tag  string // metadata or biz_opaque_callback_data, as sent
	text string // as sent; only an echo shows it
}

const (
	// receiptGrid is the step on which most receipts are posted, so that many of
	// them share a POST, as Meta's do.
	receiptGrid = 100 * time.Millisecond
	// atOnce is the fraction of receipts that are posted without any delay, and
	// so before the answer to the send if that takes a moment.
	atOnce = 0.1
	// seen is the fraction of sends that the user reads.
	seen = 0.8
)

// report schedules the receipts of an accepted send. Each has its own delay:
// their order is arbitrary, and read may come without delivered.
func (w *World) report(user int32, mid string, s *send) {
	index := w.channels[w.people[user].channel].index
	if w.cfg.Echoes && index != onWhatsApp {
		w.announce(receipt{user: user, kind: echo, mid: mid, tag: s.tag, text: s.text})
	}
	if !w.cfg.Statuses {
		return
	}
	if index == onWhatsApp {
		w.announce(receipt{user: user, kind: sent, mid: mid, tag: s.tag, text: s.text})
	}
	if index != onInstagram && w.graph.Float64() < 0.9 {
		w.announce(receipt{user: user, kind: delivered, mid: mid, tag: s.tag, text: s.text})
	}
	if w.graph.Float64() < seen {
		w.announce(receipt{user: user, kind: read, mid: mid, tag: s.tag, text: s.text})
	}
}

func (w *World) announce(r receipt) {
	r.at = w.now
	at := w.now
	if w.graph.Float64() >= atOnce {
		at += w.graph.Int64N(int64(w.cfg.ReceiptMax) + 1)
		at += int64(receiptGrid) - at%int64(receiptGrid)
	}
	w.live.Receipts++
	w.updates.push(at, update{receipt: &r})
}

// appendMessagingReceipt writes a receipt of Messenger or Instagram. An echo
// comes from the business: sender and recipient are swapped.
func (w *World) appendMessagingReceipt(b []byte, c *Channel, r *receipt) []byte {
	user := w.people[r.user].id
	switch {
	case r.kind == echo:
		b = w.appendParties(b, c.ID, user, r.at)
		b = append(b, `"message":{"mid":"`...)
		b = append(b, r.mid...)
		b = append(b, `","is_echo":true,"text":`...)
		b = appendString(b, r.text)
		if c.index == onMessenger {
			b = append(b, `,"app_id":`...)
			b = append(b, w.cfg.AppID...)
			if r.tag != "" {
				b = appendField(b, `,"metadata":`, r.tag)
			}
		}
		return append(b, `}}`...)
	case c.index == onInstagram:
		b = w.appendParties(b, user, c.ID, r.at)
		b = append(b, `"read":{"mid":"`...)
		b = append(b, r.mid...)
		return append(b, `"}}`...)
	case r.kind == delivered:
		b = w.appendParties(b, user, c.ID, r.at)
		b = append(b, `"delivery":{"mids":["`...)
		b = append(b, r.mid...)
		b = append(b, `"],"watermark":`...)
	default:
		b = w.appendParties(b, user, c.ID, r.at)
		b = append(b, `"read":{"watermark":`...)
	}
	b = strconv.AppendInt(b, w.unixMilli(r.at), 10)
	return append(b, `}}`...)
}

// appendStatus writes a WhatsApp status.
func (w *World) appendStatus(b []byte, r *receipt) []byte {
	const second = 1000
	p := &w.people[r.user]
	b = append(b, `{"id":"`...)
	b = append(b, r.mid...)
	b = append(b, `","status":"`...)
	b = append(b, [...]string{sent: "sent", delivered: "delivered", read: "read", undelivered: "failed"}[r.kind]...)
	b = append(b, `","timestamp":"`...)
	b = strconv.AppendInt(b, w.unixMilli(r.at)/second, 10)
	b = append(b, '"')
	if p.id != "" {
		b = appendField(b, `,"recipient_id":`, p.id)
	}
	if p.bsuid != "" {
		b = appendField(b, `,"recipient_user_id":`, p.bsuid)
	}
	if r.tag != "" {
		b = appendField(b, `,"biz_opaque_callback_data":`, r.tag)
	}
	if r.kind == undelivered {
		b = append(b, `,"errors":[{"code":131026,"title":"Message undeliverable"}]`...)
	}
	if r.kind == sent {
		b = append(b, `,"pricing":{"billable":false,"pricing_model":"PMP","category":"service","type":"free_customer_service"}`...)
	}
	return append(b, '}')
}
