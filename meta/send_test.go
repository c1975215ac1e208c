package meta_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

const rowText = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"

func outgoing(tb testing.TB, kind parley.ChannelKind, to parley.Contact, text string, replies ...parley.QuickReply) *parley.Outgoing {
	tb.Helper()
	id, err := parley.ParseID(rowText)
	if err != nil {
		tb.Fatal(err)
	}
	return &parley.Outgoing{
		ID:           id,
		Conversation: parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: kind, ID: "77"}, Contact: to},
		Send:         parley.Send{Text: text, QuickReplies: replies},
	}
}

// sending is a message to somebody on a platform.
func sending(tb testing.TB, kind parley.ChannelKind, s parley.Send) *parley.Outgoing {
	tb.Helper()
	to := parley.Contact("user:5")
	if kind == parley.WhatsApp {
		to = "phone:491"
	}
	o := outgoing(tb, kind, to, "")
	o.Send = s
	return o
}

func replies(n int) []parley.QuickReply {
	var out []parley.QuickReply
	for i := range n {
		out = append(out, parley.QuickReply{Title: fmt.Sprintf("T%d", i), Payload: fmt.Sprintf("P%d", i)})
	}
	return out
}

// encoded is a message and the request that it becomes.
type encoded struct {
	out  *parley.Outgoing
	opts meta.Sending
	path string
	body string
}

func (c encoded) check(t *testing.T, name string) {
	t.Helper()
	path, body, err := meta.EncodeSend(c.out, c.opts)
	if err != nil || path != c.path {
		t.Errorf("%s: %s, %v", name, path, err)
	}
	if diff := cmp.Diff(c.body, string(body)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func TestEncodeSend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]encoded{
		"messenger": {
			outgoing(t, parley.Messenger, "user:5", "h\u00e9<i>"),
			meta.Sending{},
			"77/messages",
			`{"recipient":{"id":"5"},"messaging_type":"RESPONSE","message":{"text":"hé<i>","metadata":"` + rowText + `"}}`,
		},
		"messenger, quick replies": {
			outgoing(t, parley.Messenger, "userref:r", "hi", parley.QuickReply{Title: "Yes"}, parley.QuickReply{Title: "No", Payload: "N"}),
			meta.Sending{},
			"77/messages",
			`{"recipient":{"user_ref":"r"},"messaging_type":"RESPONSE","message":{"text":"hi","quick_replies":[` +
				`{"content_type":"text","title":"Yes","payload":"Yes"},{"content_type":"text","title":"No","payload":"N"}],` +
				`"metadata":"` + rowText + `"}}`,
		},
		"instagram by a page": {
			outgoing(t, parley.Instagram, "user:5", "hi", replies(1)...),
			meta.Sending{From: "99"},
			"99/messages",
			`{"recipient":{"id":"5"},"message":{"text":"hi","quick_replies":[{"content_type":"text","title":"T0","payload":"P0"}]}}`,
		},
	} {
		c.check(t, name)
	}
}

func TestEncodeSendWhatsApp(t *testing.T) {
	t.Parallel()
	const opaque = `"biz_opaque_callback_data":"` + rowText + `"`
	for name, c := range map[string]encoded{
		"whatsapp, phone": {
			outgoing(t, parley.WhatsApp, "phone:491", "hi"),
			meta.Sending{},
			"77/messages",
			`{"messaging_product":"whatsapp","recipient_type":"individual","to":"491","type":"text","text":{"body":"hi"},` + opaque + `}`,
		},
		"whatsapp, user id": {
			outgoing(t, parley.WhatsApp, "bsuid:US.1", "hi"),
			meta.Sending{},
			"77/messages",
			`{"messaging_product":"whatsapp","recipient_type":"individual","recipient":"US.1","type":"text","text":{"body":"hi"},` + opaque + `}`,
		},
		"whatsapp, group": {
			outgoing(t, parley.WhatsApp, "group:1@g.us", "hi"),
			meta.Sending{},
			"77/messages",
			`{"messaging_product":"whatsapp","recipient_type":"group","to":"1@g.us","type":"text","text":{"body":"hi"},` + opaque + `}`,
		},
		"whatsapp, buttons": {
			outgoing(t, parley.WhatsApp, "phone:491", "hi", replies(2)...),
			meta.Sending{},
			"77/messages",
			`{"messaging_product":"whatsapp","recipient_type":"individual","to":"491","type":"interactive","interactive":` +
				`{"type":"button","body":{"text":"hi"},"action":{"buttons":[{"type":"reply","reply":{"id":"P0","title":"T0"}},` +
				`{"type":"reply","reply":{"id":"P1","title":"T1"}}]}},` + opaque + `}`,
		},
		"whatsapp, list": {
			outgoing(t, parley.WhatsApp, "phone:491", "hi", replies(4)...),
			meta.Sending{ListLabel: "Pick"},
			"77/messages",
			`{"messaging_product":"whatsapp","recipient_type":"individual","to":"491","type":"interactive","interactive":` +
				`{"type":"list","body":{"text":"hi"},"action":{"button":"Pick","sections":[{"rows":[{"id":"P0","title":"T0"},` +
				`{"id":"P1","title":"T1"},{"id":"P2","title":"T2"},{"id":"P3","title":"T3"}]}]}},` + opaque + `}`,
		},
	} {
		c.check(t, name)
	}
}

// TestSendLimits sends at each limit and one beyond it.
func TestSendLimits(t *testing.T) {
	t.Parallel()
	titled := func(title, payload string, n int) []parley.QuickReply {
		out := replies(n)
		out[0] = parley.QuickReply{Title: title, Payload: payload}
		return out
	}
	long := func(n int) string { return strings.Repeat("é", n) }
	type maker func(n int) *parley.Outgoing
	text := func(kind parley.ChannelKind, to parley.Contact, unit string, k int) maker {
		return func(n int) *parley.Outgoing { return outgoing(t, kind, to, strings.Repeat(unit, n), replies(k)...) }
	}
	for name, c := range map[string]struct {
		limit int
		make  maker
	}{
		"MaxMessengerText":         {2000, text(parley.Messenger, "user:1", "é", 0)},
		"MaxInstagramText":         {1000, text(parley.Instagram, "user:1", "e", 0)},
		"MaxWhatsAppText":          {4096, text(parley.WhatsApp, "phone:1", "é", 0)},
		"MaxWhatsAppButtonBody":    {1024, text(parley.WhatsApp, "phone:1", "é", 3)},
		"MaxWhatsAppListBody":      {4096, text(parley.WhatsApp, "phone:1", "é", 4)},
		"MaxMessengerQuickReplies": {13, func(n int) *parley.Outgoing { return outgoing(t, parley.Messenger, "user:1", "x", replies(n)...) }},
		"MaxWhatsAppRows":          {10, func(n int) *parley.Outgoing { return outgoing(t, parley.WhatsApp, "phone:1", "x", replies(n)...) }},
		"MaxMessengerTitle": {20, func(n int) *parley.Outgoing {
			return outgoing(t, parley.Messenger, "user:1", "x", titled(long(n), "p", 1)...)
		}},
		"MaxMessengerPayload": {1000, func(n int) *parley.Outgoing {
			return outgoing(t, parley.Instagram, "user:1", "x", titled("t", long(n), 1)...)
		}},
		"MaxWhatsAppButton": {20, func(n int) *parley.Outgoing {
			return outgoing(t, parley.WhatsApp, "phone:1", "x", titled(long(n), "p", 3)...)
		}},
		"MaxWhatsAppButtonID": {256, func(n int) *parley.Outgoing {
			return outgoing(t, parley.WhatsApp, "phone:1", "x", titled("t", long(n), 3)...)
		}},
		"MaxWhatsAppRow": {24, func(n int) *parley.Outgoing {
			return outgoing(t, parley.WhatsApp, "phone:1", "x", titled(long(n), "p", 4)...)
		}},
		"MaxWhatsAppRowID": {200, func(n int) *parley.Outgoing {
			return outgoing(t, parley.WhatsApp, "phone:1", "x", titled("t", long(n), 4)...)
		}},
	} {
		if _, _, err := meta.EncodeSend(c.make(c.limit), meta.Sending{}); err != nil {
			t.Errorf("%s: at the limit: %v", name, err)
		}
		_, _, err := meta.EncodeSend(c.make(c.limit+1), meta.Sending{})
		var over *meta.LimitError
		if !errors.As(err, &over) || over.Limit != name || over.Max != c.limit || over.Have != c.limit+1 {
			t.Errorf("%s: one beyond: %v", name, err)
		}
		if meta.ClassOf(err) != meta.ClassPermanent || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %s %v", name, meta.ClassOf(err), err)
		}
	}
	o := outgoing(t, parley.WhatsApp, "phone:1", "x", replies(4)...)
	if _, _, err := meta.EncodeSend(o, meta.Sending{ListLabel: long(21)}); err == nil {
		t.Error("a list's label of 21 characters")
	}
}

func TestNotAddressable(t *testing.T) {
	t.Parallel()
	for _, o := range []*parley.Outgoing{
		outgoing(t, parley.Messenger, "post:1", "x"), outgoing(t, parley.Messenger, "phone:1", "x"),
		outgoing(t, parley.Instagram, "userref:1", "x"), outgoing(t, parley.WhatsApp, "user:1", "x"),
		outgoing(t, parley.WhatsAppAccount, "phone:1", "x"), outgoing(t, "pigeon", "user:1", "x"),
	} {
		if _, body, err := meta.EncodeSend(o, meta.Sending{}); err == nil || strings.Contains(err.Error(), "x\"") {
			t.Errorf("%s: %s, %v", o.Conversation, body, err)
		}
	}
}
