package parley_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

func conversations() *rapid.Generator[parley.Conversation] {
	kinds := []parley.ChannelKind{parley.Messenger, parley.Instagram, parley.WhatsApp, parley.WhatsAppAccount}
	part := rapid.StringMatching(`[^/\x00-\x1f\x7f]+`)
	return rapid.Custom(func(t *rapid.T) parley.Conversation {
		return parley.Conversation{
			Channel: parley.Channel{
				Brand: parley.Brand(part.Draw(t, "brand")),
				Kind:  rapid.SampledFrom(kinds).Draw(t, "kind"),
				ID:    part.Draw(t, "id"),
			},
			Contact: parley.Contact(rapid.StringN(1, -1, -1).Draw(t, "contact")),
		}
	})
}

func TestConversationRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := conversations().Draw(t, "conversation")
		got, err := parley.ParseConversation(c.String())
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "parsed", c, got)
		if s := c.Shard(); s != got.Shard() || s >= parley.Shards {
			t.Fatalf("shard %d, then %d", s, got.Shard())
		}
	})
}

func TestParseConversationRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "acme", "acme/messenger/1", "acme/messenger/1/", "/messenger/1/user:2", "acme/telegram/1/user:2",
		"acme//1/user:2", "acme/messenger//user:2", "ac\nme/messenger/1/user:2", "acme/messenger/1\x7f/user:2",
	} {
		if c, err := parley.ParseConversation(s); err == nil {
			t.Errorf("%q was read as %+v", s, c)
		}
	}
}

func FuzzParseConversation(f *testing.F) {
	f.Add("acme/messenger/1234/user:42")
	f.Add("acme/whatsapp/1/bsuid:a/b")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parley.ParseConversation(s)
		if err == nil && c.String() != s {
			t.Errorf("%q became %q", s, c)
		}
	})
}

func TestChannelValidate(t *testing.T) {
	t.Parallel()
	good := parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1234"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		channel parley.Channel
		says    string
	}{
		{parley.Channel{Kind: good.Kind, ID: good.ID}, "brand"},
		{parley.Channel{Brand: "a/b", Kind: good.Kind, ID: good.ID}, "brand"},
		{parley.Channel{Brand: good.Brand, Kind: "sms", ID: good.ID}, "kind"},
		{parley.Channel{Brand: good.Brand, Kind: good.Kind}, "channel id"},
		{parley.Channel{Brand: good.Brand, Kind: good.Kind, ID: "1\t2"}, "channel id"},
	} {
		if err := c.channel.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want it to name the %s", c.channel, err, c.says)
		}
	}
}

func TestContactSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		contact  parley.Contact
		sort, id string
	}{
		{"user:42", parley.UserKey, "42"},
		{"subject:a:b", parley.SubjectKey, "a:b"},
		{"42", "", "42"},
		{"", "", ""},
	} {
		if sort, id := c.contact.Split(); sort != c.sort || id != c.id {
			t.Errorf("%q: %q, %q", c.contact, sort, id)
		}
	}
}

// The shards are stored format: these numbers never change.
func TestShardIsStoredFormat(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]uint16{
		"acme/messenger/1234/user:42":                     2358,
		"acme/instagram/17841400000000000/user:1":         1923,
		"acme/whatsapp/106540352242922/phone:4915112345":  1364,
		"acme/whatsapp/106540352242922/bsuid:DE.1a2b3c":   3726,
		"grünkern/whatsapp_account/1/template:früh/stück": 2395,
	} {
		c, err := parley.ParseConversation(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Shard(); got != want {
			t.Errorf("%q: shard %d, want %d", s, got, want)
		}
	}
}

// Shards are flat whatever the ids look like: the chi-squared statistic over
// all shards stays within six standard deviations of its mean.
func TestShardsAreFlat(t *testing.T) {
	t.Parallel()
	const perShard = 64
	for name, contact := range map[string]func(i int) string{
		"counting":       func(i int) string { return fmt.Sprintf("user:%d", 5_000_000_000_000_000+i) },
		"steps of 4096":  func(i int) string { return fmt.Sprintf("user:%d", 4096*i) },
		"phone numbers":  func(i int) string { return fmt.Sprintf("phone:49151%07d", i) },
		"hex, last char": func(i int) string { return fmt.Sprintf("bsuid:DE.%016x", uint64(i)<<44) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			counts := make([]int, parley.Shards)
			for i := range parley.Shards * perShard {
				c := talk()
				c.Contact = parley.Contact(contact(i))
				counts[c.Shard()]++
			}
			chi := 0.0
			for _, n := range counts {
				d := float64(n - perShard)
				chi += d * d / perShard
			}
			// Mean Shards-1, standard deviation sqrt(2*(Shards-1)) = 90.5.
			if chi > parley.Shards-1+6*90.5 || chi < parley.Shards-1-6*90.5 {
				t.Errorf("chi squared %.0f over %d shards", chi, parley.Shards)
			}
		})
	}
}

func TestEventKey(t *testing.T) {
	t.Parallel()
	keys := map[parley.EventKey]string{}
	for _, parts := range [][]string{
		nil,
		{""},
		{"", ""},
		{"ab", "c"},
		{"a", "bc"},
		{"abc"},
		{"a", "b", "c"},
		{strings.Repeat("x", 600)},
		{strings.Repeat("x", 601)},
	} {
		k := parley.NewEventKey(parts...)
		if k != parley.NewEventKey(parts...) {
			t.Errorf("%q: another key each time", parts)
		}
		if other, ok := keys[k]; ok {
			t.Errorf("%q has the key of %s", parts, other)
		}
		keys[k] = fmt.Sprintf("%q", parts)
	}
	// Stored format, too.
	if got := parley.NewEventKey("message", "mid.1").String(); got != "87cbeef41932a8e83abdc97e89a67211" {
		t.Errorf("key %s", got)
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	random := [16]byte{0, 1, 2, 3, 4, 5, 0xff, 7, 0xff, 9, 10, 11, 12, 13, 14, 15}
	id := parley.NewID(time.UnixMilli(0x0123456789ab), random)
	if got := id.String(); got != "01234567-89ab-7f07-bf09-0a0b0c0d0e0f" {
		t.Errorf("id %s", got)
	}
	if id.IsZero() || !(parley.ID{}).IsZero() {
		t.Error("zero")
	}
	rapid.Check(t, func(t *rapid.T) {
		var random [16]byte
		copy(random[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "random"))
		ms := rapid.Int64Range(0, 1<<48-1).Draw(t, "ms")
		id := parley.NewID(time.UnixMilli(ms), random)
		data, err := json.Marshal(map[string]parley.ID{"id": id})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]parley.ID
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		diff(t, "id", id, back["id"])
		if later := parley.NewID(time.UnixMilli(ms+1), random); ms < 1<<48-1 && later.String() <= id.String() {
			t.Fatalf("%s sorts after %s", id, later)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("01234567-89ab-7f07-bf09-0a0b0c0d0e0f")
	f.Add("01234567-89AB-7f07-bf09-0a0b0c0d0e0g")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parley.ParseID(s)
		if err == nil && !strings.EqualFold(id.String(), s) {
			t.Errorf("%q became %s", s, id)
		}
		var back parley.ID
		if err := back.UnmarshalText([]byte(id.String())); err != nil || back != id {
			t.Errorf("%s became %s: %v", id, back, err)
		}
	})
}
