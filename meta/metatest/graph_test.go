package metatest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// desk is a world in which every user has written one message.
type desk struct {
	w        *metatest.World
	channels map[metatest.Platform]metatest.Channel
	users    map[metatest.Platform][]incoming
	now      time.Time
}

func newDesk(tb testing.TB, cfg metatest.Config) *desk {
	tb.Helper()
	cfg.Start, cfg.Rate, cfg.Users, cfg.Duration, cfg.AnswerMax = start(), 60, 60, time.Second, -1
	cfg.Channels = metatest.Counts{Messenger: 1, Instagram: 1, WhatsApp: 1}
	d := &desk{
		w: metatest.NewWorld(cfg), now: start().Add(time.Second),
		channels: map[metatest.Platform]metatest.Channel{}, users: map[metatest.Platform][]incoming{},
	}
	byID := map[string]metatest.Platform{}
	for _, c := range d.w.Channels() {
		d.channels[c.Platform], byID[c.ID] = c, c.Platform
	}
	for _, p := range d.w.Due(d.now) {
		messages, _, err := readWebhook(p.Body)
		if err != nil {
			tb.Fatal(err)
		}
		for _, m := range messages {
			d.users[byID[m.channel]] = append(d.users[byID[m.channel]], m)
		}
		d.w.Posted(p.ID, 200, d.now)
	}
	return d
}

func (d *desk) user(p metatest.Platform, bsuid bool) incoming {
	for _, u := range d.users[p] {
		if u.bsuid == bsuid {
			return u
		}
	}
	panic("no such user")
}

func (d *desk) send(p metatest.Platform, body string) metatest.GraphAnswer {
	c := d.channels[p]
	return d.w.Graph(metatest.GraphRequest{
		Method: "POST", Path: "/v26.0/" + c.ID + "/messages", Token: c.Token, Body: []byte(body),
	}, d.now)
}

// A thread is with another app from when it was passed there until it is taken back:
// who writes to it meanwhile is told so.
func TestGraphMovesThreads(t *testing.T) {
	t.Parallel()
	for _, p := range []metatest.Platform{metatest.Messenger, metatest.Instagram, metatest.WhatsApp} {
		d := newDesk(t, metatest.Config{})
		u := d.user(p, false)
		to := `{"recipient":{"id":"` + u.user + `"}`
		for i, step := range []struct {
			edge, body string
			code       int // of the refusal
		}{
			{"pass_thread_control", to + `}`, 100},
			{"pass_thread_control", to + `,"target_app_id":"the inbox"}`, 100},
			{"pass_thread_control", `{"target_app_id":1}`, 100},
			{"pass_thread_control", `{"recipient":{"id":"0"},"target_app_id":1}`, 100},
			{"pass_thread_control", to + `,"target_app_id":"263902037430900"}`, 0},
			{"messages", string(sendBody(p, u, "said 1 #1", "")), 2018300},
			{"pass_thread_control", to + `,"target_app_id":1}`, 2018300},
			{"take_thread_control", to + `}`, 0},
			{"messages", string(sendBody(p, u, "said 1 #1", "")), 0},
		} {
			c := d.channels[p]
			a := d.w.Graph(metatest.GraphRequest{Method: "POST", Path: "/v26.0/" + c.ID + "/" + step.edge, Token: c.Token, Body: []byte(step.body)}, d.now)
			var got graphError
			if err := json.Unmarshal(a.Body, &got); err != nil {
				t.Fatal(err)
			}
			want := step.code
			if p == metatest.WhatsApp {
				want = map[bool]int{true: 0, false: 100}[step.edge == "messages"]
			}
			if got.Error.Code != want || (a.Status == 200) != (want == 0) {
				t.Errorf("%v, step %d: status %d, %s", p, i, a.Status, a.Body)
			}
		}
	}
}

type graphError struct {
	Error struct {
		Message     string `json:"message"`
		Type        string `json:"type"`
		Code        int    `json:"code"`
		Subcode     int    `json:"error_subcode"`
		Trace       string `json:"fbtrace_id"`
		IsTransient bool   `json:"is_transient"`
	} `json:"error"`
}

func TestGraphAnswersLikeMeta(t *testing.T) {
	t.Parallel()
	d := newDesk(t, metatest.Config{})
	t.Run("messenger", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, metatest.Config{})
		u := d.user(metatest.Messenger, false)
		a := d.send(metatest.Messenger, string(sendBody(metatest.Messenger, u, "said 1 #1", "")))
		var got struct {
			RecipientID string `json:"recipient_id"`
			MessageID   string `json:"message_id"`
		}
		if err := json.Unmarshal(a.Body, &got); err != nil {
			t.Fatal(err)
		}
		if a.Status != 200 || got.RecipientID != u.user || !strings.HasPrefix(got.MessageID, "m_") {
			t.Errorf("status %d, body %s", a.Status, a.Body)
		}
	})
	for _, bsuid := range []bool{false, true} {
		u := d.user(metatest.WhatsApp, bsuid)
		a := d.send(metatest.WhatsApp, string(sendBody(metatest.WhatsApp, u, "said 1 #1", "")))
		var got struct {
			Product  string `json:"messaging_product"`
			Contacts []struct {
				Input  string `json:"input"`
				WaID   string `json:"wa_id"`
				UserID string `json:"user_id"`
			} `json:"contacts"`
			Messages []struct{ ID string } `json:"messages"`
		}
		if err := json.Unmarshal(a.Body, &got); err != nil {
			t.Fatal(err)
		}
		if a.Status != 200 || got.Product != "whatsapp" || len(got.Contacts) != 1 || got.Contacts[0].Input != u.user ||
			len(got.Messages) != 1 || !strings.HasPrefix(got.Messages[0].ID, "wamid.") {
			t.Errorf("status %d, body %s", a.Status, a.Body)
		}
		if bsuid == (got.Contacts[0].WaID != "") || bsuid && got.Contacts[0].UserID != u.user {
			t.Errorf("contact of a user with BSUID only %v: %s", bsuid, a.Body)
		}
	}
}

func TestGraphRefusesWhatMetaRefuses(t *testing.T) {
	t.Parallel()
	const psid, phone = `"recipient":{"id":"PSID"}`, `"messaging_product":"whatsapp","to":"PHONE"`
	quick := func(n int) string {
		one := `{"content_type":"text","title":"A","payload":"P"}`
		return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]"
	}
	button := func(id string) string { return `{"type":"reply","reply":{"id":"` + id + `","title":"T` + id + `"}}` }
	interactive := func(buttons ...string) string {
		return `{` + phone + `,"type":"interactive","interactive":{"type":"button","body":{"text":"said 1 #1"},"action":{"buttons":[` +
			strings.Join(buttons, ",") + `]}}}`
	}
	text := func(n int) string { return `"text":"` + strings.Repeat("x", n) + `"` }
	for name, test := range map[string]struct {
		platform metatest.Platform
		body     string
		code     int // 0 = accepted
	}{
		"no json":                   {metatest.Messenger, `{`, 100},
		"no recipient":              {metatest.Messenger, `{"messaging_type":"RESPONSE","message":{"text":"a"}}`, 100},
		"unknown user":              {metatest.Messenger, `{"recipient":{"id":"1"},"messaging_type":"RESPONSE","message":{"text":"a"}}`, 100},
		"no messaging type":         {metatest.Messenger, `{` + psid + `,"message":{"text":"a"}}`, 100},
		"unknown messaging type":    {metatest.Messenger, `{` + psid + `,"messaging_type":"X","message":{"text":"a"}}`, 100},
		"tag that was withdrawn":    {metatest.Messenger, `{` + psid + `,"messaging_type":"MESSAGE_TAG","tag":"ACCOUNT_UPDATE","message":{"text":"a"}}`, 100},
		"human agent":               {metatest.Messenger, `{` + psid + `,"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT","message":{"text":"a"}}`, 0},
		"no message":                {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE"}`, 100},
		"empty message":             {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE","message":{}}`, 100},
		"2000 characters":           {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE","message":{` + text(2000) + `}}`, 0},
		"2001 characters":           {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE","message":{` + text(2001) + `}}`, 100},
		"13 quick replies":          {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE","message":{"text":"a","quick_replies":` + quick(13) + `}}`, 0},
		"14 quick replies":          {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE","message":{"text":"a","quick_replies":` + quick(14) + `}}`, 100},
		"quick reply without title": {metatest.Messenger, `{` + psid + `,"messaging_type":"RESPONSE","message":{"text":"a","quick_replies":[{"content_type":"text","payload":"p"}]}}`, 100},
		"typing":                    {metatest.Messenger, `{` + psid + `,"sender_action":"typing_on"}`, 0},
		"instagram, no type":        {metatest.Instagram, `{` + psid + `,"message":{"text":"a"}}`, 0},
		"instagram, 1000 bytes":     {metatest.Instagram, `{` + psid + `,"message":{` + text(1000) + `}}`, 0},
		"instagram, 1001 bytes":     {metatest.Instagram, `{` + psid + `,"message":{` + text(1001) + `}}`, 100},
		"no product":                {metatest.WhatsApp, `{"to":"PHONE","type":"text","text":{"body":"a"}}`, 100},
		"no addressee":              {metatest.WhatsApp, `{"messaging_product":"whatsapp","text":{"body":"a"}}`, 131008},
		"no body":                   {metatest.WhatsApp, `{` + phone + `,"type":"text","text":{}}`, 131008},
		"4096 characters":           {metatest.WhatsApp, `{` + phone + `,"text":{"body":"` + strings.Repeat("é", 4096) + `"}}`, 0},
		"4097 characters":           {metatest.WhatsApp, `{` + phone + `,"text":{"body":"` + strings.Repeat("é", 4097) + `"}}`, 100},
		"unknown type":              {metatest.WhatsApp, `{` + phone + `,"type":"carrier_pigeon"}`, 100},
		"bsuid recipient type":      {metatest.WhatsApp, `{` + phone + `,"recipient_type":"business_scoped_user_id","text":{"body":"a"}}`, 100},
		"unknown number":            {metatest.WhatsApp, `{"messaging_product":"whatsapp","to":"1","text":{"body":"a"}}`, 131026},
		"3 buttons":                 {metatest.WhatsApp, interactive(button("a"), button("b"), button("c")), 0},
		"4 buttons":                 {metatest.WhatsApp, interactive(button("a"), button("b"), button("c"), button("d")), 131009},
		"no buttons":                {metatest.WhatsApp, interactive(), 131009},
		"same button twice":         {metatest.WhatsApp, interactive(button("a"), button("a")), 131009},
		"read notice":               {metatest.WhatsApp, `{"messaging_product":"whatsapp","status":"read","message_id":"wamid.1"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, metatest.Config{})
			r := strings.NewReplacer("PSID", d.user(test.platform, false).user, "PHONE", d.user(metatest.WhatsApp, false).user)
			a := d.send(test.platform, r.Replace(test.body))
			wantError(t, a, test.code)
		})
	}
}

func wantError(t *testing.T, a metatest.GraphAnswer, code int) {
	t.Helper()
	var got graphError
	if err := json.Unmarshal(a.Body, &got); err != nil {
		t.Fatalf("answer %s: %v", a.Body, err)
	}
	if code == 0 && a.Status == 200 && got.Error.Code == 0 {
		return
	}
	if got.Error.Code != code || a.Status < 400 || got.Error.Type == "" || got.Error.Message == "" || got.Error.Trace == "" {
		t.Errorf("status %d, %s; want code %d in Meta's form", a.Status, a.Body, code)
	}
}

func TestGraphWantsTheChannelsToken(t *testing.T) {
	t.Parallel()
	d := newDesk(t, metatest.Config{})
	for p, status := range map[metatest.Platform]int{metatest.Messenger: 400, metatest.Instagram: 400, metatest.WhatsApp: 401} {
		other := metatest.Messenger
		if p == other {
			other = metatest.WhatsApp
		}
		a := d.w.Graph(metatest.GraphRequest{
			Method: "POST", Path: "/v26.0/" + d.channels[p].ID + "/messages", Token: d.channels[other].Token,
			Body: sendBody(p, d.user(p, false), "said 1 #1", ""),
		}, d.now)
		wantError(t, a, 190)
		if a.Status != status {
			t.Errorf("%s: status %d, want %d", p, a.Status, status)
		}
	}
	if v := d.w.Verdict(); v.Sends != 0 || v.SendsRefused != 3 {
		t.Errorf("%d sends, %d refused; want 0 and 3", v.Sends, v.SendsRefused)
	}
}

func TestGraphChecksTheProof(t *testing.T) {
	t.Parallel()
	d := newDesk(t, metatest.Config{RequireProof: true})
	c := d.channels[metatest.Messenger]
	mac := hmac.New(sha256.New, []byte(d.w.Config().Secret))
	_, _ = mac.Write([]byte(c.Token))
	for proof, code := range map[string]int{"": 100, "00": 100, hex.EncodeToString(mac.Sum(nil)): 0} {
		wantError(t, d.w.Graph(metatest.GraphRequest{
			Method: "POST", Path: "/v26.0/" + c.ID + "/messages", Token: c.Token, Proof: proof,
			Body: sendBody(c.Platform, d.user(c.Platform, false), "said 1 #1", ""),
		}, d.now), code)
	}
}

func TestGraphKnowsItsPaths(t *testing.T) {
	t.Parallel()
	d := newDesk(t, metatest.Config{})
	c := d.channels[metatest.Messenger]
	for _, req := range []metatest.GraphRequest{
		{Method: "GET", Path: "/v26.0/" + c.ID + "/messages"},
		{Method: "POST", Path: "/" + c.ID + "/messages"},
		{Method: "POST", Path: "/v26.0/12345/messages"},
		{Method: "POST", Path: "/v26.0/" + c.ID + "/subscribed_apps"},
	} {
		req.Token = c.Token
		wantError(t, d.w.Graph(req, d.now), 100)
	}
}

// TestTagsComeBack: what was sent along comes back in echoes and statuses, by
// which a node can tell whether a doubtful send went through.
func TestTagsComeBack(t *testing.T) {
	t.Parallel()
	cfg := metatest.Config{Echoes: true, Statuses: true}
	cfg.Faults.Withheld = 1
	d := newDesk(t, cfg)
	const tag = "tag \"é\U0001f44d\"/1"
	for _, p := range []metatest.Platform{metatest.Messenger, metatest.WhatsApp} {
		if a := d.send(p, string(sendBody(p, d.user(p, false), "said 1 #1", tag))); !a.Withhold {
			t.Fatalf("%s: answered %s", p, a.Body)
		}
	}
	var echoed, stated bool
	for _, p := range d.w.Due(d.now.Add(10 * time.Second)) {
		var hook struct {
			Entry []struct {
				Messaging []struct {
					Message struct {
						IsEcho   bool   `json:"is_echo"`
						AppID    int64  `json:"app_id"`
						Metadata string `json:"metadata"`
						Text     string `json:"text"`
					} `json:"message"`
				} `json:"messaging"`
				Changes []struct {
					Value struct {
						Statuses []struct {
							Status string `json:"status"`
							Opaque string `json:"biz_opaque_callback_data"`
						} `json:"statuses"`
					} `json:"value"`
				} `json:"changes"`
			} `json:"entry"`
		}
		if err := json.Unmarshal(p.Body, &hook); err != nil {
			t.Fatal(err)
		}
		for _, e := range hook.Entry {
			for _, m := range e.Messaging {
				echoed = echoed || m.Message.IsEcho && m.Message.Metadata == tag && m.Message.AppID != 0 && m.Message.Text == "said 1 #1"
			}
			for _, c := range e.Changes {
				for _, s := range c.Value.Statuses {
					stated = stated || s.Status == "sent" && s.Opaque == tag
				}
			}
		}
	}
	if !echoed || !stated {
		t.Errorf("echo with metadata %v, status with callback data %v; want both", echoed, stated)
	}
}

func FuzzGraph(f *testing.F) {
	d := newDesk(f, metatest.Config{Echoes: true, Statuses: true})
	for _, p := range []metatest.Platform{metatest.Messenger, metatest.Instagram, metatest.WhatsApp} {
		f.Add(string(p), sendBody(p, d.user(p, false), "said 1 #1", "t"))
		f.Add(string(p), sendBody(p, d.user(p, false), "ring 4294967295", "t"))
		f.Add(string(p), sendBody(p, d.user(p, false), "said 1 #4294967295", "\x00\xff"))
	}
	f.Fuzz(func(t *testing.T, platform string, body []byte) {
		d := newDesk(t, metatest.Config{Echoes: true, Statuses: true})
		p := metatest.Platform(platform)
		if _, ok := d.channels[p]; !ok {
			p = metatest.Messenger
		}
		a := d.send(p, string(body))
		if !json.Valid(a.Body) || a.Status != 200 && a.Status != 400 {
			t.Fatalf("status %d, body %q", a.Status, a.Body)
		}
		for _, post := range d.w.Due(d.now.Add(10 * time.Second)) {
			if !json.Valid(post.Body) {
				t.Fatalf("webhook %q", post.Body)
			}
		}
		d.w.Verdict()
	})
}
