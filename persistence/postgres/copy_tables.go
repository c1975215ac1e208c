package postgres

import "github.com/parleychat/parley"

// copiedTable is a table with the holdings of one kind, and how these become rows
// of it, and a row one of these. What a row repeats of itself (a shard, a digest)
// is checked on the way back.
type copiedTable struct {
	name, columns string
	put           func(*parley.Holdings, *rowWriter)
	get           func(*parley.Holdings, *rowReader)
}

// copiedTables are all tables with something that must not be lost. The suspects
// aren't among them: see the embedded store's Export.
func copiedTables() []copiedTable {
	return []copiedTable{
		{"conversation", "conv, version, token, format, snapshot", putConversations, getConversation},
		{"merged", "survivor, younger, shard", putMerged, getMerged},
		{"contact", "alias, canonical, born", putContacts, getContact},
		{"inbox", "conv, shard, seq, token, received, key, at, late, data", putPending, getPending},
		{"outbox", "conv, channel, id, ordinal, at, data, attempts, doubtful, claimed, epoch, due, bulk", putUnsent, getUnsent},
		{"timer", "conv, shard, id, key, due, data", putTimers, getTimer},
		{"seen", "conv, key, at, day", putOlder, getOlder},
		{"history", "conv, version, day, record", putHistory, getRecord},
		{"dead", "conv, brand, id, at, cause, seq, data", putDead, getDead},
		{"quarantine", "app, kind, channel_id, entrance, id, received, day, cause, body", putQuarantined, getQuarantined},
		{"receipt", "channel, n, status, provider_id, outgoing, contact, watermark, at, code, reason", putReceipts, getReceipt},
		{"delivery", "channel, contact, provider_id, digest, outgoing, status, at, day, code, reason, sent", putDeliveries, getDelivery},
		{"watermark", "conv, status, up_to, at", putWatermarks, getWatermark},
		{"lease", "channel, epoch, holder, expiry", putEpochs, getEpoch},
		{"call", "conv, service, id, at, due, claim, attempts, status, cause, data", putCalls, getCall},
		{"registration", "app, channel", putRegistrations, getRegistration},
		{"silence", "conv, ordinal, at", putSilences, getSilence},
	}
}

func putConversations(h *parley.Holdings, w *rowWriter) {
	for i := range h.Conversations {
		s := &h.Conversations[i]
		snapshot, format := packSnapshot(s)
		w.row(w.name(s.Conversation), int64(s.Version.Number), int64(s.Version.Token), format, snapshot)
	}
}

func getConversation(h *parley.Holdings, r *rowReader) {
	s := parley.Snapshot{Conversation: r.conversation()}
	version := parley.Version{Number: uint64(r.number()), Token: parley.Token(r.number())}
	format := r.number()
	r.note(unpackSnapshot(&s, r.bytes()))
	_, own := packSnapshot(&s)
	r.must(s.Version == version && format == int64(own))
	h.Conversations = append(h.Conversations, s)
}

func putMerged(h *parley.Holdings, w *rowWriter) {
	for _, m := range h.Merged {
		survivor := parley.Conversation{Channel: m.Younger.Channel, Contact: m.Survivor}
		w.row(w.name(survivor), w.name(m.Younger), int16(m.Younger.Shard()))
	}
}

func getMerged(h *parley.Holdings, r *rowReader) {
	m := parley.Merged{Survivor: r.conversation().Contact, Younger: r.conversation()}
	r.must(r.number() == int64(m.Younger.Shard()))
	h.Merged = append(h.Merged, m)
}

func putContacts(h *parley.Holdings, w *rowWriter) {
	for _, c := range h.Contacts {
		w.row(w.name(c.Key), w.name(parley.Conversation{Channel: c.Key.Channel, Contact: c.Means}), int64(c.Born))
	}
}

func getContact(h *parley.Holdings, r *rowReader) {
	h.Contacts = append(h.Contacts, parley.KnownContact{Key: r.conversation(), Means: r.conversation().Contact, Born: uint64(r.number())})
}

func putPending(h *parley.Holdings, w *rowWriter) {
	for i := range h.Pending {
		p := &h.Pending[i]
		w.row(w.name(p.Conversation), int16(p.Conversation.Shard()), int64(p.Seq), int64(p.Token), toMS(p.Received),
			p.Key[:], toMS(p.Time), p.Late, some(p.Data))
	}
}

func getPending(h *parley.Holdings, r *rowReader) {
	p := parley.Pending{Conversation: r.conversation()}
	r.must(r.number() == int64(p.Conversation.Shard()))
	p.Row = parley.Row{Seq: parley.Seq(r.number()), Token: parley.Token(r.number())}
	p.Received, p.Key, p.Time, p.Late, p.Data = r.time(), parley.EventKey(r.fixed()), r.time(), r.flag(), r.bytes()
	h.Pending = append(h.Pending, p)
}

// dueClaimedMS is dueClaimed as a number.
const dueClaimedMS = 1 << 60

// bulkLaneMS is bulkLane as a number.
const bulkLaneMS = -(1 << 61)

// putUnsent knows whether a message is behind another of its conversation, but
// for the first of a part: that is found out by the claim that comes upon it.
func putUnsent(h *parley.Holdings, w *rowWriter) {
	for i := range h.Unsent {
		u := &h.Unsent[i]
		ms := toMS(u.Due)
		due := &ms
		switch {
		case u.Epoch != 0:
			ms = dueClaimedMS
		case u.Last.IsZero() && i > 0 && u.Conversation == h.Unsent[i-1].Conversation && (u.Send.Bulk || !h.Unsent[i-1].Send.Bulk):
			due = nil
		case u.Send.Bulk:
			ms += bulkLaneMS
		}
		w.row(w.name(u.Conversation), channelKey(u.Conversation.Channel), [16]byte(u.ID), int64(u.Ordinal), toMS(u.At), encodeContent(&u.Outgoing),
			int32(u.Attempts), u.Doubtful, toMS(u.Last), int64(u.Epoch), due, u.Send.Bulk)
	}
}

func getUnsent(h *parley.Holdings, r *rowReader) {
	var u parley.Unsent
	u.Conversation = r.conversation()
	r.must(r.channel() == u.Conversation.Channel)
	u.ID, u.Ordinal, u.At = r.fixed(), uint64(r.number()), r.time()
	r.note(u.DecodeContent(r.bytes()))
	u.Attempts, u.Doubtful, u.Last, u.Epoch = int(r.number()), r.flag(), r.time(), uint64(r.number())
	due := r.number()
	if due < 0 {
		due -= bulkLaneMS
	}
	if r.must(due == dueClaimedMS == (u.Epoch != 0)); due != dueClaimedMS {
		u.Due = fromMS(due)
	}
	r.must(r.flag() == u.Send.Bulk)
	h.Unsent = append(h.Unsent, u)
}

func putSilences(h *parley.Holdings, w *rowWriter) {
	for _, s := range h.Silences {
		w.row(w.name(s.Conversation), int64(s.UpTo), toMS(s.At))
	}
}

func getSilence(h *parley.Holdings, r *rowReader) {
	h.Silences = append(h.Silences, parley.Silence{Conversation: r.conversation(), UpTo: uint64(r.number()), At: r.time()})
}

func putTimers(h *parley.Holdings, w *rowWriter) {
	for i := range h.Timers {
		d := &h.Timers[i]
		key := timerKey(d.Conversation, d.Timer.ID)
		w.row(w.name(d.Conversation), int16(d.Conversation.Shard()), [16]byte(d.Timer.ID), key[:], toMS(d.Timer.Due), encodeTimer(d.Timer))
	}
}

func getTimer(h *parley.Holdings, r *rowReader) {
	d := parley.DueTimer{Conversation: r.conversation()}
	r.must(r.number() == int64(d.Conversation.Shard()))
	d.Timer.ID = r.fixed()
	r.must(parley.EventKey(r.fixed()) == timerKey(d.Conversation, d.Timer.ID))
	d.Timer.Due = r.time()
	in, err := parley.DecodeInput(r.bytes())
	r.note(err)
	fired, ok := in.(parley.TimerFired)
	r.must(ok && fired.Due.Equal(d.Timer.Due))
	d.Timer.Name, d.Timer.Generation = fired.Name, fired.Generation
	h.Timers = append(h.Timers, d)
}

func putOlder(h *parley.Holdings, w *rowWriter) {
	for i := range h.Older {
		k := &h.Older[i]
		at := toMS(k.Seen.At)
		w.row(w.name(k.Conversation), k.Seen.Key[:], at, day(at))
	}
}

func getOlder(h *parley.Holdings, r *rowReader) {
	k := parley.OlderKey{Conversation: r.conversation(), Seen: parley.SeenKey{Key: parley.EventKey(r.fixed()), At: r.time()}}
	r.must(r.number() == int64(day(toMS(k.Seen.At))))
	h.Older = append(h.Older, k)
}

func putHistory(h *parley.Holdings, w *rowWriter) {
	for i := range h.History {
		r := &h.History[i]
		w.row(w.name(r.Conversation), int64(r.Version), int32(r.Day), some(r.Data))
	}
}

func getRecord(h *parley.Holdings, r *rowReader) {
	h.History = append(h.History, parley.Record{Conversation: r.conversation(), Version: uint64(r.number()), Day: int(r.number()), Data: r.bytes()})
}

func putDead(h *parley.Holdings, w *rowWriter) {
	for i := range h.Dead {
		d := &h.Dead[i]
		w.row(w.name(d.Conversation), bytesOf(d.Conversation.Channel.Brand), [16]byte(d.ID), toMS(d.At), bytesOf(d.Cause), int64(d.Seq), some(d.Data))
	}
}

func getDead(h *parley.Holdings, r *rowReader) {
	d := parley.DeadLetter{Conversation: r.conversation()}
	r.must(r.text() == string(d.Conversation.Channel.Brand))
	d.ID, d.At, d.Cause, d.Seq, d.Data = r.fixed(), r.time(), r.text(), parley.Seq(r.number()), r.bytes()
	h.Dead = append(h.Dead, d)
}

func putQuarantined(h *parley.Holdings, w *rowWriter) {
	for i := range h.Quarantined {
		q := &h.Quarantined[i]
		received := toMS(q.Received)
		w.row(bytesOf(q.App), bytesOf(q.Kind), bytesOf(q.ChannelID), entrance(q.App, q.Kind, q.ChannelID), [16]byte(q.ID),
			received, day(received), bytesOf(q.Cause), some(q.Body))
	}
}

func getQuarantined(h *parley.Holdings, r *rowReader) {
	q := parley.Quarantined{App: parley.App(r.text()), Kind: parley.ChannelKind(r.text()), ChannelID: r.text()}
	r.must(r.text() == string(entrance(q.App, q.Kind, q.ChannelID)))
	q.ID, q.Received = r.fixed(), r.time()
	r.must(r.number() == int64(day(toMS(q.Received))))
	q.Cause, q.Body = r.text(), r.bytes()
	h.Quarantined = append(h.Quarantined, q)
}

func putReceipts(h *parley.Holdings, w *rowWriter) {
	for i := range h.Receipts {
		r := &h.Receipts[i]
		w.row(w.channel(r.Channel), int64(r.Number), bytesOf(r.Status), bytesOf(r.ProviderID), [16]byte(r.Row),
			bytesOf(r.Contact), toMS(r.Watermark), toMS(r.Time), int64(r.Code), bytesOf(r.Reason))
	}
}

func getReceipt(h *parley.Holdings, r *rowReader) {
	var n parley.NumberedReceipt
	n.Channel, n.Number, n.Status, n.ProviderID = r.channel(), uint64(r.number()), parley.Status(r.text()), r.text()
	n.Row, n.Contact, n.Watermark, n.Time = r.fixed(), parley.Contact(r.text()), r.time(), r.time()
	n.Code, n.Reason = int(r.number()), r.text()
	h.Receipts = append(h.Receipts, n)
}

func putDeliveries(h *parley.Holdings, w *rowWriter) {
	for i := range h.Deliveries {
		d := &h.Deliveries[i]
		at := toMS(d.At)
		w.row(w.channel(d.Conversation.Channel), bytesOf(d.Conversation.Contact), bytesOf(d.ProviderID), digest(d.ProviderID), [16]byte(d.ID),
			bytesOf(d.Status), at, day(at), int64(d.Code), bytesOf(d.Reason), toMS(d.Claimed))
	}
}

func getDelivery(h *parley.Holdings, r *rowReader) {
	var d parley.HandedOver
	d.Conversation, d.ProviderID = parley.Conversation{Channel: r.channel(), Contact: parley.Contact(r.text())}, r.text()
	r.must(r.text() == string(digest(d.ProviderID)))
	d.ID, d.Status, d.At = r.fixed(), parley.Status(r.text()), r.time()
	r.must(r.number() == int64(day(toMS(d.At))))
	d.Code, d.Reason, d.Claimed = int(r.number()), r.text(), r.time()
	h.Deliveries = append(h.Deliveries, d)
}

func putWatermarks(h *parley.Holdings, w *rowWriter) {
	for _, m := range h.Watermarks {
		w.row(w.name(m.Conversation), bytesOf(m.Status), toMS(m.UpTo), toMS(m.At))
	}
}

func getWatermark(h *parley.Holdings, r *rowReader) {
	h.Watermarks = append(h.Watermarks, parley.Watermark{Conversation: r.conversation(), Status: parley.Status(r.text()), UpTo: r.time(), At: r.time()})
}

// putEpochs: only the epoch goes on. Whoever held the lease is gone, since nobody
// else has the source.
func putEpochs(h *parley.Holdings, w *rowWriter) {
	for _, e := range h.Epochs {
		w.row(w.channel(e.Channel), int64(e.Number), []byte{}, int64(0))
	}
}

func getEpoch(h *parley.Holdings, r *rowReader) {
	h.Epochs = append(h.Epochs, parley.Epoch{Channel: r.channel(), Number: uint64(r.number())})
	r.must(r.text() == "" && r.number() == 0)
}

func putRegistrations(h *parley.Holdings, w *rowWriter) {
	for _, g := range h.Registrations {
		w.row(bytesOf(g.App), w.channel(g.Channel))
	}
}

func getRegistration(h *parley.Holdings, r *rowReader) {
	h.Registrations = append(h.Registrations, parley.Registration{App: parley.App(r.text()), Channel: r.channel()})
}

// putCalls: whoever had claimed one is gone, since nobody else has the source.
func putCalls(h *parley.Holdings, w *rowWriter) {
	for i := range h.Calls {
		c := &h.Calls[i]
		data, _ := c.EncodeContent() // what a store took has a form
		w.row(w.name(c.Conversation), bytesOf(c.Call.Service), [16]byte(c.ID), toMS(c.At), toMS(c.Due), int64(0),
			int32(c.Attempts), int32(c.Status), bytesOf(c.Cause), data)
	}
}

func getCall(h *parley.Holdings, r *rowReader) {
	var c parley.PendingCall
	c.Conversation = r.conversation()
	service := r.text()
	c.ID, c.At, c.Due = r.fixed(), r.time(), r.time()
	r.must(r.number() == 0)
	c.Attempts, c.Status, c.Cause = int(r.number()), int(r.number()), r.text()
	r.note(c.DecodeContent(r.bytes()))
	r.must(service == c.Call.Service)
	h.Calls = append(h.Calls, c)
}
