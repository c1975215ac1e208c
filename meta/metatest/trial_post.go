package metatest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TrialPost is one POST to be written now.
type TrialPost struct {
	ID        uint64 // for [Trial.Posted]; the same for every attempt
	Attempt   int    // 0 is the first
	Signature string // of the header [SignatureHeader]; empty = no such header
	Older     string // of the header X-Hub-Signature (sha1), which alone is no signature
	Body      []byte // read-only
}

// Kinds of POSTs.
const (
	postMessages = "messages"
	postAgain    = "delivered again"
	postReceipts = "echoes and statuses"
	postForged   = "forged"
)

// mail is a POST of a trial.
type mail struct {
	TrialPost
	kind    string
	index   int // platform
	due     int64
	handed  int64
	updates []parcel
	wrong   string // of a forgery: what is wrong
}

// Due returns the POSTs to be written now. Each must be reported by [Trial.Posted],
// at the latest when Config.Deadline is over.
func (t *Trial) Due(now time.Time) []TrialPost {
	at := t.w.tick(now)
	t.compose(at)
	var posts []TrialPost
	for t.retries.len() > 0 && t.retries.next() <= at && t.free() > 0 {
		if m := t.retries.pop(); t.gone[m.index] {
			delete(t.posts, m.ID)
		} else {
			posts = append(posts, t.hand(m))
		}
	}
	for len(t.forge) > 0 && t.forge[0] <= at && t.free() > 0 {
		posts = append(posts, t.hand(t.forgery(len(t.forge))))
		t.forge = t.forge[1:]
	}
	return t.pack(at, posts)
}

func (t *Trial) free() int { return t.cfg.Workers - t.out }

// Classes of parcels that share no POST.
const parcelClasses = 3

func (p parcel) class() int {
	switch {
	case p.receipt != nil:
		return 1
	case p.again:
		return 2
	}
	return 0
}

// pack puts the parcels that are due into POSTs.
func (t *Trial) pack(at int64, posts []TrialPost) []TrialPost {
	var open [platforms][parcelClasses][]parcel
	var most [platforms][parcelClasses]int
	begun := 0
	for t.outgoing.len() > 0 && t.outgoing.next() <= at {
		p := t.outgoing.first()
		index, class := t.w.channels[t.w.people[p.user()].channel].index, p.class()
		if t.gone[index] {
			t.outgoing.pop()
			continue
		}
		if len(open[index][class]) == 0 {
			if begun++; begun > t.free() {
				break
			}
			most[index][class] = t.size(class)
		}
		open[index][class] = append(open[index][class], t.outgoing.pop())
		if len(open[index][class]) == most[index][class] {
			begun--
			posts = append(posts, t.mail(index, open[index][class]))
			open[index][class] = nil
		}
	}
	for index := range open {
		for _, parcels := range open[index] {
			if len(parcels) > 0 {
				posts = append(posts, t.mail(index, parcels))
			}
		}
	}
	return posts
}

func (t *Trial) size(class int) int {
	if class == 1 {
		return t.cfg.Receipts
	}
	return 1 + t.chance.IntN(t.cfg.Batch)
}

// mail makes a POST, and perhaps has its messages delivered once more.
func (t *Trial) mail(index int, parcels []parcel) TrialPost {
	if len(parcels) > 1 && t.chance.Float64() < t.cfg.Reorder {
		t.chance.Shuffle(len(parcels), func(i, j int) { parcels[i], parcels[j] = parcels[j], parcels[i] })
	}
	body := t.appendParcels(make([]byte, 0, 512*len(parcels)), index, parcels)
	t.lastPost++
	m := &mail{
		kind: [parcelClasses]string{postMessages, postReceipts, postAgain}[parcels[0].class()], index: index, due: t.w.now,
		updates: parcels, TrialPost: TrialPost{ID: t.lastPost, Body: body, Signature: t.w.sign(body)},
	}
	if m.kind == postMessages && t.chance.Float64() < t.cfg.Duplicates {
		t.repeatLater(parcels)
	}
	return t.hand(m)
}

// repeatLater has messages delivered again: half of them at about the same time.
func (t *Trial) repeatLater(parcels []parcel) {
	const soon, later = 20 * time.Millisecond, 3 * time.Second
	within := later
	if t.chance.IntN(2) == 0 {
		within = soon
	}
	for _, p := range parcels {
		p.again = true
		t.outgoing.push(t.w.now+t.chance.Int64N(int64(within)+1), p)
	}
	t.court.count.Duplicates += len(parcels)
}

// forgery is a POST that nobody may believe.
func (t *Trial) forgery(kind int) *mail {
	victim := int32(len(t.visitors))
	index := t.w.channels[t.w.people[victim].channel].index
	t.lastPost++
	line := &Line{}
	forged := &utterance{user: victim, line: line, text: "a message that Meta never sent", at: t.w.now}
	forged.mid = string(appendID(nil, index, mix(t.cfg.Seed, t.lastPost), t.lastPost|1<<62))
	body := t.appendParcels(nil, index, []parcel{{message: forged}})
	m := &mail{kind: postForged, index: index, due: t.w.now, TrialPost: TrialPost{ID: t.lastPost, Body: body}}
	right := t.w.sign(body)
	switch kind % 4 {
	case 0:
		m.wrong = "signed with another secret"
		m.Signature = right[:len(right)-8] + strconv.FormatUint(mix(1, t.lastPost)>>32|1<<31, 16)
	case 1:
		m.wrong = "without a signature"
	case 2:
		m.wrong = "with the signature of another body"
		m.Signature = t.w.sign([]byte("{}"))
	default:
		m.wrong = "with the older header X-Hub-Signature (sha1) alone"
		m.Older = "sha1=" + right[7:47]
	}
	return m
}

// hand gives a POST to the driver, and takes note of what may now arrive.
func (t *Trial) hand(m *mail) TrialPost {
	m.handed = t.w.now
	t.posts[m.ID] = m
	t.out++
	t.court.count.Posts++
	for _, p := range m.updates {
		t.told(p, m.Attempt > 0)
	}
	return m.TrialPost
}

// told takes note of what the receiver is told about a user.
func (t *Trial) told(p parcel, repeated bool) {
	v := &t.visitors[p.user()]
	switch {
	case p.receipt != nil && p.receipt.kind == echo:
		v.heard = causeEcho
		for i := range v.said {
			v.said[i].echoed = v.said[i].echoed || v.said[i].text == p.receipt.text
		}
	case p.receipt != nil:
		v.heard = causeStatus
	case p.again || repeated:
		v.heard = causeAgain
	default:
		v.heard = causeMessage
	}
	if p.message == nil {
		return
	}
	if p.message.posts == 0 {
		p.message.posts, p.message.posted = t.w.step, t.w.now
	}
	if at := t.w.people[p.user()].channel; t.w.channels[at].index == onWhatsApp { // which counts both ways
		t.paces[at].take(t.w.now, numberPace, numberPace, true)
	}
}

// Posted tells what became of a POST: the HTTP status, [NoAnswer] or [Refused]. Only
// 200 within the deadline acknowledges it.
func (t *Trial) Posted(id uint64, status int, now time.Time) {
	at := t.w.tick(now)
	m := t.posts[id]
	if m == nil {
		return
	}
	t.out--
	t.touched = at
	took := time.Duration(at - m.handed)
	t.court.posted(m, status, took)
	switch {
	case m.kind == postForged:
		delete(t.posts, id)
		if status >= 200 && status < 300 {
			t.court.sin(sinForged, fmt.Sprintf("POST %d, %s, was answered %d", id, m.wrong, status))
		}
	case status == 200 && took <= t.cfg.Deadline:
		t.acknowledged(m, at)
	default:
		t.failed(m, status, took)
		t.repost(m, at)
	}
}

func (t *Trial) acknowledged(m *mail, at int64) {
	delete(t.posts, m.ID)
	t.failing[m.index] = -1
	for _, p := range m.updates {
		if u := p.message; u != nil && u.acked == 0 {
			u.acked, u.ackedAt = t.w.step, at
			t.court.count.Acked++
		}
	}
}

// failed names the sin of an answer that is none.
func (t *Trial) failed(m *mail, status int, took time.Duration) {
	what := fmt.Sprintf("POST %d (%s, %d of them, attempt %d)", m.ID, m.kind, len(m.updates), m.Attempt+1)
	late := took >= t.cfg.Deadline
	switch {
	case status == Refused:
		t.court.sin(sinUnreachable, what+": no connection")
	case status == NoAnswer && !late:
		t.court.sin(sinUnreachable, what+": the connection broke before an answer")
	case late:
		t.court.sin(sinSlow, fmt.Sprintf("%s: no answer within %s", what, t.cfg.Deadline))
	case m.known():
		t.court.sin(sinDuplicateRefused, fmt.Sprintf("%s: answered %d, so it comes again and again", what, status))
	default:
		t.court.sin(sinNot200, fmt.Sprintf("%s: answered %d", what, status))
	}
}

// known reports whether all that is in a POST was acknowledged before.
func (m *mail) known() bool {
	return !slices.ContainsFunc(m.updates, func(p parcel) bool { return p.message == nil || p.message.acked == 0 })
}

// How long Meta repeats a POST.
const (
	keptByMessenger = 36 * time.Hour
	keptByWhatsApp  = 7 * 24 * time.Hour
)

// repost has a POST sent again by the schedule; unless the app is unsubscribed or Meta
// gives up.
func (t *Trial) repost(m *mail, at int64) {
	if t.failing[m.index] < 0 {
		t.failing[m.index] = at
	}
	keep := keptByMessenger
	if m.index == onWhatsApp {
		keep = keptByWhatsApp
	}
	switch {
	case t.gone[m.index]:
		delete(t.posts, m.ID)
	case m.index != onWhatsApp && at-t.failing[m.index] >= t.metas(hourOfMeta):
		t.gone[m.index] = true
		delete(t.posts, m.ID)
		t.court.sin(sinUnsubscribed, fmt.Sprintf("%s: no POST was answered with 200 for an hour (%s here); Meta sends nothing more", platformAt(m.index), time.Duration(t.metas(hourOfMeta))))
	case at-m.due >= t.metas(keep):
		delete(t.posts, m.ID)
		t.court.sin(sinGivenUp, fmt.Sprintf("POST %d (%s): Meta gave up after %d attempts", m.ID, m.kind, m.Attempt+1))
	default:
		wait := t.metas(t.cfg.Retry[min(m.Attempt, len(t.cfg.Retry)-1)])
		m.Attempt++
		t.court.count.Retries++
		t.retries.push(at+wait, m)
	}
}

// numbered puts the number of a message where its line has the mark.
func numbered(text string, n int) string {
	return strings.ReplaceAll(text, numberMark, strconv.Itoa(n))
}

// appendParcels writes a webhook, whose parcels are of one platform: an entry for each
// run of parcels of one channel.
func (t *Trial) appendParcels(b []byte, index int, parcels []parcel) []byte {
	b = append(b, `{"object":"`...)
	b = append(b, [platforms]string{"page", "instagram", "whatsapp_business_account"}[index]...)
	b = append(b, `","entry":[`...)
	for i := 0; i < len(parcels); {
		n := 1
		for i+n < len(parcels) && t.w.people[parcels[i+n].user()].channel == t.w.people[parcels[i].user()].channel {
			n++
		}
		b = t.appendEntry(comma(b, i), &t.w.channels[t.w.people[parcels[i].user()].channel], parcels[i:i+n])
		i += n
	}
	return append(b, `]}`...)
}

func (t *Trial) appendEntry(b []byte, c *Channel, parcels []parcel) []byte {
	if c.index == onWhatsApp {
		return t.appendChanges(b, c, parcels)
	}
	b = append(b, `{"id":"`+c.ID+`","time":`...)
	b = strconv.AppendInt(b, t.w.unixMilli(t.w.now), 10) // when it is sent, not when it happened
	b = append(b, `,"messaging":[`...)
	for i, p := range parcels {
		b = comma(b, i)
		if p.receipt != nil {
			b = t.w.appendMessagingReceipt(b, c, p.receipt)
		} else {
			b = t.appendMessaging(b, c, p.message)
		}
	}
	return append(b, `]}`...)
}

func (t *Trial) appendMessaging(b []byte, c *Channel, m *utterance) []byte {
	b = t.w.appendParties(b, t.w.people[m.user].id, c.ID, m.at)
	if m.line.Click {
		b = appendField(append(b, `"postback":{"title":"Do it"`...), `,"payload":`, m.text)
		return append(appendField(b, `,"mid":`, m.mid), `}}`...)
	}
	b = appendField(append(b, `"message":{`...), `"mid":`, m.mid)
	return append(appendField(b, `,"text":`, m.text), `}}`...)
}

// appendChanges writes the entry of a WhatsApp number: one change for all, or one for
// each.
func (t *Trial) appendChanges(b []byte, c *Channel, parcels []parcel) []byte {
	b = append(b, `{"id":"`+c.Account+`","changes":[`...)
	each := len(parcels)
	if t.chance.IntN(2) == 0 {
		each = 1
	}
	for i := 0; i < len(parcels); i += each {
		b = t.appendNumberChange(comma(b, i), c, parcels[i:i+each])
	}
	return append(b, `]}`...)
}

func (t *Trial) appendNumberChange(b []byte, c *Channel, parcels []parcel) []byte {
	b = appendField(b, `{"value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":`, c.display)
	b = appendField(b, `,"phone_number_id":`, c.ID)
	if parcels[0].receipt != nil {
		b = append(b, `},"statuses":[`...)
		for i, p := range parcels {
			b = t.w.appendStatus(comma(b, i), p.receipt)
		}
		return append(b, `]},"field":"messages"}`...)
	}
	b = append(b, `},"contacts":[`...)
	for i, p := range parcels {
		b = appendContact(comma(b, i), &t.w.people[p.message.user])
	}
	b = append(b, `],"messages":[`...)
	for i, p := range parcels {
		b = t.appendNumberMessage(comma(b, i), p.message)
	}
	return append(b, `]},"field":"messages"}`...)
}

func (t *Trial) appendNumberMessage(b []byte, m *utterance) []byte {
	p := &t.w.people[m.user]
	b = appendField(b, `{"id":`, m.mid)
	b = append(b, `,"timestamp":"`...)
	const second = 1000
	b = append(strconv.AppendInt(b, t.w.unixMilli(m.at)/second, 10), '"')
	if p.id != "" || p.emptyID {
		b = appendField(b, `,"from":`, p.id)
	}
	if p.bsuid != "" {
		b = appendField(b, `,"from_user_id":`, p.bsuid)
	}
	if m.line.Click {
		b = appendField(b, `,"type":"interactive","interactive":{"type":"button_reply","button_reply":{"id":`, m.text)
		return append(b, `,"title":"Do it"}}}`...)
	}
	return append(appendField(b, `,"type":"text","text":{"body":`, m.text), `}}`...)
}
