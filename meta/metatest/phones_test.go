package metatest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
	"github.com/parleychat/parley/meta/metatest"
)

// hand is somebody who plays phones in a time of its own.
type hand struct {
	t      *testing.T
	phones *metatest.Phones
	now    time.Time
}

func newHand(t *testing.T) *hand {
	t.Helper()
	now := time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC)
	return &hand{t: t, now: now, phones: metatest.NewPhones(metatest.PhonesConfig{Seed: 7, Media: "http://127.0.0.1:1/media/"}, now)}
}

func (h *hand) add(platform metatest.Platform) *metatest.Phone {
	h.t.Helper()
	f, err := h.phones.Add(platform, "Ada Lovelace")
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *hand) do(f *metatest.Phone, a metatest.Act) *metatest.Bubble {
	h.t.Helper()
	b, err := h.phones.Do(f.ID, a, h.now)
	if err != nil {
		h.t.Fatalf("%+v: %v", a, err)
	}
	return b
}

// post takes what is due within a time, and answers each with a status.
func (h *hand) post(within time.Duration, status int) (posts []metatest.TrialPost) {
	h.t.Helper()
	for end := h.now.Add(within); ; {
		for _, p := range h.phones.Due(h.now) {
			posts = append(posts, p)
			h.phones.Posted(p.ID, status, h.now)
		}
		next, ok := h.phones.NextDue()
		if !ok || next.After(end) {
			h.now = end
			return posts
		}
		h.now = next
	}
}

// decoded is what the real decoder reads of posts: their inputs and receipts.
func (h *hand) decoded(posts []metatest.TrialPost) (inputs []parley.Input, receipts []parley.Receipt) {
	h.t.Helper()
	for _, p := range posts {
		got, err := meta.Decode(p.Body, meta.Options{
			OwnAppID: h.phones.Config().AppID,
			Resolve: func(kind parley.ChannelKind, id string) (parley.Channel, bool) {
				return parley.Channel{Brand: "b", Kind: kind, ID: id}, true
			},
		})
		if err != nil {
			h.t.Fatalf("decode %s: %v", p.Body, err)
		}
		if len(got.Quarantined) > 0 {
			h.t.Fatalf("%s: not all of it was read", p.Body)
		}
		for _, e := range got.Events {
			inputs = append(inputs, e.Input)
		}
		receipts = append(receipts, got.Receipts...)
	}
	return inputs, receipts
}

// send posts to the Graph API as the bot of the phone's channel would.
func (h *hand) send(f *metatest.Phone, body string) metatest.GraphAnswer {
	h.t.Helper()
	for _, c := range h.phones.Channels() {
		if c.ID == f.Channel {
			return h.phones.Graph(metatest.GraphRequest{
				Method: "POST", Path: "/v26.0/" + c.ID + "/messages", Token: c.Token, Body: []byte(strings.ReplaceAll(body, "$", f.ID)),
			}, h.now)
		}
	}
	h.t.Fatal("no channel")
	return metatest.GraphAnswer{}
}

const (
	pageText   = `{"recipient":{"id":"$"},"messaging_type":"RESPONSE","message":{"text":"hello","metadata":"0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a11"}}`
	numberText = `{"messaging_product":"whatsapp","to":"$","type":"text","text":{"body":"hello"},"biz_opaque_callback_data":"0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a11"}`
)

func textFor(f *metatest.Phone) string {
	if f.Platform == metatest.WhatsApp {
		return numberText
	}
	return pageText
}

var everyPlatform = []metatest.Platform{metatest.Messenger, metatest.Instagram, metatest.WhatsApp}

// What users do is what a bot hears, on every platform.
func TestPhonesAreHeard(t *testing.T) {
	t.Parallel()
	place := &metatest.PhonePlace{Latitude: 52.5, Longitude: 13.25, Name: "Gate"}
	for name, row := range map[string]struct {
		act  metatest.Act
		only metatest.Platform
		says func(parley.Input) bool
	}{
		"Text": {metatest.Act{Text: "grüße \"<>"}, "", func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && m.Text == "grüße \"<>" && m.Payload == ""
		}},
		"QuickReply": {metatest.Act{Text: "Yes", Payload: "yes!", Tap: "quick_reply"}, "", func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && m.Text == "Yes" && m.Payload == "yes!"
		}},
		"Button": {metatest.Act{Text: "Buy", Payload: "buy 1", Tap: "button"}, "", func(in parley.Input) bool {
			m, _ := in.(parley.Message)
			p, _ := in.(parley.Postback)
			return m.Payload+p.Payload == "buy 1" && m.Text+p.Title == "Buy"
		}},
		"Row": {metatest.Act{Text: "Salami", Payload: "s", Tap: "list"}, metatest.WhatsApp, func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && m.Text == "Salami" && m.Payload == "s"
		}},
		"TemplateButton": {metatest.Act{Text: "Stop", Payload: "stop", Tap: "template"}, metatest.WhatsApp, func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && m.Text == "Stop" && m.Payload == "stop"
		}},
		"Image": {metatest.Act{Media: &metatest.PhoneFile{Kind: "image", Name: "a.png"}}, "", func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && len(m.Attachments) == 1 && m.Attachments[0].Type == "image" && m.Attachments[0].URL == "http://127.0.0.1:1/media/a.png"
		}},
		"Document": {metatest.Act{Media: &metatest.PhoneFile{Kind: "document", Name: "a.pdf"}}, "", func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && len(m.Attachments) == 1 && (m.Attachments[0].Type == "file" || m.Attachments[0].Name == "a.pdf")
		}},
		"Location": {metatest.Act{Place: place}, "", func(in parley.Input) bool {
			m, ok := in.(parley.Message)
			return ok && (m.Location != nil && m.Location.Latitude == 52.5 && m.Location.Longitude == 13.25)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, platform := range everyPlatform {
				if row.only != "" && row.only != platform {
					continue
				}
				h := newHand(t)
				f := h.add(platform)
				b := h.do(f, row.act)
				inputs, _ := h.decoded(h.post(0, 200))
				if len(inputs) != 1 || !row.says(inputs[0]) {
					t.Errorf("%s: heard %+v", platform, inputs)
				}
				if b.Status != "delivered" || b.Deliveries != 1 {
					t.Errorf("%s: %s, delivered %d times", platform, b.Status, b.Deliveries)
				}
			}
		})
	}
}

// A reaction is of the emoji that was chosen, and taken back by none.
func TestPhonesReact(t *testing.T) {
	t.Parallel()
	for _, platform := range everyPlatform {
		h := newHand(t)
		f := h.add(platform)
		h.do(f, metatest.Act{Text: "hello"})
		h.send(f, textFor(f))
		h.post(time.Minute, 200)
		about := f.Bubbles[1].ID
		h.do(f, metatest.Act{React: true, Emoji: "❤", About: about})
		h.do(f, metatest.Act{React: true, About: about})
		inputs, _ := h.decoded(h.post(0, 200))
		if len(inputs) != 2 {
			t.Fatalf("%s: heard %+v", platform, inputs)
		}
		first, ok := inputs[0].(parley.Reaction)
		if !ok || first.Emoji != "❤" || first.MessageID != about || first.Removed {
			t.Errorf("%s: %+v", platform, inputs[0])
		}
		second, ok := inputs[1].(parley.Reaction)
		if !ok || !second.Removed || second.MessageID != about {
			t.Errorf("%s: %+v", platform, inputs[1])
		}
	}
}

// What the business sends is on the screen, and it hears what became of it.
func TestPhonesShowAndTell(t *testing.T) {
	t.Parallel()
	for platform, want := range map[metatest.Platform][]parley.Status{
		metatest.Messenger: {parley.StatusEchoed, parley.StatusDelivered, parley.StatusRead},
		metatest.Instagram: {parley.StatusEchoed, parley.StatusRead},
		metatest.WhatsApp:  {parley.StatusSent, parley.StatusDelivered, parley.StatusRead},
	} {
		h := newHand(t)
		f := h.add(platform)
		h.do(f, metatest.Act{Text: "hello"})
		h.post(0, 200)
		if a := h.send(f, textFor(f)); a.Status != 200 || a.Withhold {
			t.Fatalf("%s: answer %d %s", platform, a.Status, a.Body)
		}
		if len(f.Bubbles) != 2 || f.Bubbles[1].Mine || f.Bubbles[1].Status != "delivered" {
			t.Fatalf("%s: on the screen: %+v", platform, f.Bubbles)
		}
		_, told := h.decoded(h.post(time.Minute, 200))
		if err := h.phones.Look(f.ID, h.now); err != nil {
			t.Fatal(err)
		}
		_, read := h.decoded(h.post(time.Minute, 200))
		var got []parley.Status
		for _, r := range append(told, read...) {
			got = append(got, r.Status)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: told %v, want %v", platform, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: told %v, want %v", platform, got, want)
			}
		}
		if err := h.phones.Look(f.ID, h.now); err != nil || len(h.post(time.Minute, 200)) > 0 {
			t.Errorf("%s: told again what was read", platform)
		}
	}
}

func TestPhonesShowNotices(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	ada, chen := h.add(metatest.Messenger), h.add(metatest.WhatsApp)
	a, c := h.do(ada, metatest.Act{Text: "hello"}), h.do(chen, metatest.Act{Text: "hello"})
	h.post(0, 200)
	h.send(ada, `{"recipient":{"id":"$"},"sender_action":"typing_on"}`)
	h.send(chen, `{"messaging_product":"whatsapp","status":"read","message_id":"`+c.ID+`","typing_indicator":{"type":"text"}}`)
	for _, f := range []*metatest.Phone{ada, chen} {
		if !f.Typing.After(h.now) {
			t.Errorf("%s: nobody types", f.Platform)
		}
		h.send(f, textFor(f))
		if f.Typing.After(h.now) {
			t.Errorf("%s: still typing after the message", f.Platform)
		}
	}
	h.send(ada, `{"recipient":{"id":"$"},"sender_action":"mark_seen"}`)
	if a.Status != "read" || c.Status != "read" {
		t.Errorf("read: %s, %s", a.Status, c.Status)
	}
	h.send(ada, `{"recipient":{"id":"$"},"sender_action":"react","payload":{"message_id":"`+a.ID+`","reaction":"love"}}`)
	h.send(chen, `{"messaging_product":"whatsapp","to":"$","type":"reaction","reaction":{"message_id":"`+c.ID+`","emoji":"👍"}}`)
	if a.Reaction != "❤" || c.Reaction != "👍" || len(chen.Bubbles) != 2 {
		t.Errorf("reactions %q, %q; %d bubbles", a.Reaction, c.Reaction, len(chen.Bubbles))
	}
}

// A window of a day, by the phones' clock.
func TestPhonesWindow(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, platform := range everyPlatform {
		h := newHand(t)
		f := h.add(platform)
		refused := func(want bool, body string) {
			t.Helper()
			if a := h.send(f, body); (a.Status != 200) != want {
				t.Errorf("%s: answer %d %s", platform, a.Status, a.Body)
			}
		}
		refused(true, textFor(f)) // never wrote
		h.do(f, metatest.Act{Text: "hello"})
		h.now = h.now.Add(day - time.Second)
		refused(false, textFor(f))
		h.now = h.now.Add(time.Second)
		refused(true, textFor(f))
		if platform == metatest.WhatsApp {
			refused(false, `{"messaging_product":"whatsapp","to":"$","type":"template","template":{"name":"hello","language":{"code":"de"}}}`)
			continue
		}
		human := strings.Replace(pageText, `"RESPONSE"`, `"MESSAGE_TAG","tag":"HUMAN_AGENT"`, 1)
		refused(false, human)
		h.now = h.now.Add(6 * day)
		refused(true, human)
	}
}

func TestPhonesTroubles(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	f := h.add(metatest.Messenger)
	h.phones.Trouble(metatest.Troubles{Duplicates: true})
	b := h.do(f, metatest.Act{Text: "hello"})
	posts := h.post(time.Minute, 200)
	if len(posts) != 2 || !bytes.Equal(posts[0].Body, posts[1].Body) || b.Deliveries != 2 {
		t.Errorf("%d posts, %d deliveries, want the same twice", len(posts), b.Deliveries)
	}

	h.phones.Trouble(metatest.Troubles{Reorder: true})
	const many = 20
	var said []string
	for range many {
		said = append(said, h.do(f, metatest.Act{Text: "again"}).ID)
	}
	var came []string
	for _, in := range first(h.decoded(h.post(time.Minute, 200))) {
		m, ok := in.(parley.Message)
		if !ok {
			t.Fatalf("heard %+v", in)
		}
		came = append(came, m.ID)
	}
	if len(came) != many || strings.Join(came, " ") == strings.Join(said, " ") {
		t.Errorf("%d came, in the order in which they were said", len(came))
	}

	h.phones.Trouble(metatest.Troubles{LostAnswers: true})
	before := len(f.Bubbles)
	if a := h.send(f, pageText); !a.Withhold || len(f.Bubbles) != before+1 {
		t.Errorf("answer %+v, %d bubbles more", a, len(f.Bubbles)-before)
	}
	h.phones.Trouble(metatest.Troubles{GraphDown: true})
	if a := h.send(f, pageText); a.Status != 500 || len(f.Bubbles) != before+1 {
		t.Errorf("answer %d, %d bubbles more", a.Status, len(f.Bubbles)-before)
	}
}

func first[A, B any](a A, _ B) A { return a }

// Until it is acknowledged it comes again, over a restart of the simulator too.
func TestPhonesPostAgain(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	f := h.add(metatest.Instagram)
	b := h.do(f, metatest.Act{Text: "hello"})
	if posts := h.post(10*time.Second, metatest.Refused); len(posts) < 5 || b.Status != "sending" || h.phones.Waiting() != 1 {
		t.Fatalf("%d attempts, %s, %d waiting", len(posts), b.Status, h.phones.Waiting())
	}
	saved, err := h.phones.Save()
	if err != nil {
		t.Fatal(err)
	}
	if h.phones, err = metatest.RestorePhones(metatest.PhonesConfig{}, saved, h.now); err != nil {
		t.Fatal(err)
	}
	posts := h.post(0, 200)
	inputs, _ := h.decoded(posts)
	if m, ok := inputs[0].(parley.Message); len(inputs) != 1 || !ok || m.ID != b.ID || h.phones.Waiting() != 0 {
		t.Fatalf("heard %+v, want %s", inputs, b.ID)
	}
	restored, err := h.phones.Phone(f.ID)
	if err != nil {
		t.Fatal(err)
	}
	if a := h.send(restored, pageText); a.Status != 200 || len(restored.Bubbles) != 2 || restored.Bubbles[1].ID == b.ID {
		t.Errorf("answer %d %s, %d bubbles", a.Status, a.Body, len(restored.Bubbles))
	}
	if again := h.add(metatest.Instagram); again.ID == f.ID {
		t.Error("two users of one id")
	}
}

func TestPhonesRefuseActs(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	f := h.add(metatest.Messenger)
	b := h.do(f, metatest.Act{Text: "hello"})
	for name, a := range map[string]metatest.Act{
		"Nothing":       {},
		"Spaces":        {Text: " \n"},
		"Long":          {Text: strings.Repeat("ä", 2001)},
		"NotUTF8":       {Text: "\xff"},
		"Payload":       {Text: "x", Tap: "button", Payload: strings.Repeat("x", 1001)},
		"Tap":           {Text: "x", Tap: "swipe"},
		"RowElsewhere":  {Text: "x", Tap: "list"},
		"TapUntitled":   {Tap: "button", Payload: "x"},
		"Sticker":       {Media: &metatest.PhoneFile{Kind: "sticker", Name: "a.png"}},
		"FileElsewhere": {Media: &metatest.PhoneFile{Kind: "image", Name: "../a.png"}},
		"Latitude":      {Place: &metatest.PhonePlace{Latitude: 90.5}},
		"ReactToNone":   {React: true, Emoji: "❤"},
		"EmojiLong":     {React: true, Emoji: strings.Repeat("x", 33), About: b.ID},
	} {
		if _, err := h.phones.Do(f.ID, a, h.now); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := h.phones.Do("1", metatest.Act{Text: "x"}, h.now); !errors.Is(err, metatest.ErrNoPhone) {
		t.Errorf("nobody's phone: %v", err)
	}
	if _, err := h.phones.Do(f.ID, metatest.Act{Text: "x", About: "m_none"}, h.now); !errors.Is(err, metatest.ErrNoBubble) {
		t.Errorf("about nothing: %v", err)
	}
	if len(f.Bubbles) != 1 {
		t.Errorf("%d bubbles", len(f.Bubbles))
	}
	for _, name := range []string{"", strings.Repeat("x", 41)} {
		if _, err := h.phones.Add(metatest.Messenger, name); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if _, err := h.phones.Add("telegram", "Ada"); err == nil {
		t.Error("a platform that there isn't")
	}
}

// Whatever a bot's node sends, it is answered, and what was told of it can be read.
func FuzzPhonesGraph(f *testing.F) {
	for _, body := range []string{
		pageText, numberText, `{"recipient":{"id":"$"},"sender_action":"react","payload":{"message_id":"m_1","reaction":"love"}}`,
		`{"messaging_product":"whatsapp","to":"$","type":"reaction","reaction":{"message_id":"wamid.1","emoji":"👍"}}`,
		`{"messaging_product":"whatsapp","status":"read","message_id":"wamid.1","typing_indicator":{"type":"text"}}`, `[]`, `{"message":7}`,
	} {
		f.Add(body, true)
		f.Add(body, false)
	}
	f.Fuzz(func(t *testing.T, body string, number bool) {
		h := newHand(t)
		phone := h.add(map[bool]metatest.Platform{true: metatest.WhatsApp, false: metatest.Messenger}[number])
		h.do(phone, metatest.Act{Text: "hello"})
		h.post(0, 200)
		if a := h.send(phone, body); !a.Withhold && !json.Valid(a.Body) {
			t.Errorf("answered with what isn't JSON: %s", a.Body)
		}
		if err := h.phones.Look(phone.ID, h.now); err != nil {
			t.Error(err)
		}
		h.decoded(h.post(time.Minute, 200))
		if _, err := h.phones.Save(); err != nil {
			t.Error(err)
		}
	})
}

// What others write into a folder must not bring the simulator down.
func FuzzRestorePhones(f *testing.F) {
	h := metatest.NewPhones(metatest.PhonesConfig{Seed: 1}, time.Unix(1, 0))
	phone, err := h.Add(metatest.WhatsApp, "Ada")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := h.Do(phone.ID, metatest.Act{Text: "hello"}, time.Unix(2, 0)); err != nil {
		f.Fatal(err)
	}
	saved, err := h.Save()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(saved)
	f.Add([]byte(`{"phones":[{"platform":"messenger","id":"1","bubbles":[null,{"mine":true,"status":"sending","act":{}}]}]}`))
	f.Fuzz(func(t *testing.T, saved []byte) {
		p, err := metatest.RestorePhones(metatest.PhonesConfig{}, saved, time.Unix(3, 0))
		if err != nil {
			return
		}
		for _, post := range p.Due(time.Unix(4, 0)) {
			if !json.Valid(post.Body) {
				t.Errorf("a body that isn't JSON: %s", post.Body)
			}
			p.Posted(post.ID, 200, time.Unix(4, 0))
		}
		if _, err := p.Save(); err != nil {
			t.Error(err)
		}
	})
}
