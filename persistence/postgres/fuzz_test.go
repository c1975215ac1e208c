package postgres_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// FuzzAccepted: a list of accepted events is read or refused, and what is read is written
// as the same bytes. An error names nobody: the names are persons' numbers.
func FuzzAccepted(f *testing.F) {
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: "phone:zanzibar"}
	whole := postgres.EncodeAccepted([]parley.Accepted{
		{Conversation: c, Key: parley.NewEventKey("1"), Token: 7},
		{Conversation: parley.Conversation{Channel: c.Channel, Contact: "user:\x00\xff"}, Key: parley.NewEventKey("2")},
	})
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add([]byte{2, 3})
	f.Add(append([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, whole...))
	f.Fuzz(func(t *testing.T, stored []byte) {
		all, err := postgres.DecodeAccepted(stored)
		if err != nil {
			if len(all) > 0 || strings.Contains(err.Error(), "zanzibar") {
				t.Errorf("%d events with %v", len(all), err)
			}
			return
		}
		again, err := postgres.DecodeAccepted(postgres.EncodeAccepted(all))
		if diff := cmp.Diff(all, again); err != nil || diff != "" {
			t.Errorf("written and read again: %v\n%s", err, diff)
		}
	})
}

// FuzzKey: the stored name of a conversation is read as that conversation, and two have
// different ones, as they are sorted and compared by their bytes. An error names nobody.
func FuzzKey(f *testing.F) {
	f.Add([]byte("acme/messenger/1/user:zanzibar"), []byte("acme/messenger/1/user:2"))
	f.Add([]byte("acme/messenger"), []byte("a/messenger/b/c/d/e"))
	f.Add([]byte("acme/whatsapp/\xff/phone:1"), []byte(""))
	f.Fuzz(func(t *testing.T, one, other []byte) {
		c, err := postgres.ParseKey(one)
		if err != nil {
			if strings.Contains(err.Error(), "zanzibar") {
				t.Errorf("an error that names somebody: %v", err)
			}
			return
		}
		if got := postgres.ConversationKey(c); !bytes.Equal(got, one) {
			t.Errorf("%q is read as %+v, which is stored as %q", one, c, got)
		}
		if d, err := postgres.ParseKey(other); err == nil && (c == d) != bytes.Equal(one, other) {
			t.Errorf("%q and %q: the same conversation %v", one, other, c == d)
		}
	})
}
