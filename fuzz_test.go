package parley_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// secretWord stands for what somebody has written. Errors are logged, so it is in none.
const secretWord = "zanzibar"

// keepsSecret holds an error about stored data to that. Where the word isn't a text, it
// may be told: the name of a kind, say.
func keepsSecret(t *testing.T, data []byte, err error) {
	t.Helper()
	if err == nil {
		return
	}
	rest := string(data)
	for _, field := range []string{"text", "payload", "reason", "body"} {
		rest = strings.ReplaceAll(rest, `"`+field+`":"`+secretWord+`"`, "")
	}
	if !strings.Contains(rest, secretWord) && strings.Contains(err.Error(), secretWord) {
		t.Errorf("%q: an error that tells what was said: %v", data, err)
	}
	if len(err.Error()) > 1000 {
		t.Errorf("%q: an error of %d bytes", data, len(err.Error()))
	}
}

// FuzzInputPaths: an input that is read by the short way is what it is by the long one;
// and who made it is seen at its stored form as at the input.
func FuzzInputPaths(f *testing.F) {
	for _, in := range inputs() {
		data, err := parley.EncodeInput(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, data := range []string{
		`{"kind":"message","input":{"text":"zanzibar"},"kind":"postback"}`, `{"kind":"message","input":{"text":"zanzibar"}} `,
		`{"kind":"timer_fired","input":{"name":"a"}}`, `{"kind":"timer_fired_2","input":{}}`, `{"kind":"message","input":["text":"zanzibar"]}`,
		`{"kind":"message","input":null}`, `{"kind":"a\",\"input\":","input":{}}`, `{"kind":"message","input":{"text":"zanzibar","location":7}}`,
		`{"kind":"message","input":{}}`, `{"kind":"message","input":{"id":"m","text":"a\u00e9\"\\"}}`, `{"kind":"message","input":{"id":"m","text":"a\nb"}}`,
		`{"kind":"message","input":{"text":"a","id":"m"}}`,
		`{"kind":"message","input":{"id":"m","text":"zwölf 🕛","payload":"P"}}`, `{"kind":"message","input":{"id":"m","id":"n"}}`,
		`{"kind":"message","input":{"id":"m","text":"a` + "\n" + `"}}`, `{"kind":"message","input":{"id":"m","text":"a` + "\xff" + `"}}`,
		`{"kind":"message","input":{"id":"m","text":"a","forwarded":true}}`, `{"kind":"message","input":{"id":"m"}`, `{"kind":"message","input":{"id":"m",}}`,
	} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		quick, err := parley.DecodeInput(data)
		slow, errSlow := parley.DecodeInput(append([]byte(" "), data...))
		if (err == nil) != (errSlow == nil) {
			t.Fatalf("%q is read as %v by the short way, and %v by the long one", data, err, errSlow)
		}
		diff(t, "by the short way", slow, quick)
		keepsSecret(t, data, err)
		if err != nil {
			return
		}
		stored, err := parley.EncodeInput(quick)
		if err != nil {
			t.Fatal(err)
		}
		kinds := parley.OwnKinds()
		if own := slices.Contains(kinds[:], quick.Kind()); parley.OfOwn(stored) != own {
			t.Errorf("%s: of our own %v, want %v", stored, !own, own)
		}
	})
}

// FuzzOutgoing: what the outbox has of a message is read and written as the same, and
// its message is the one that is read alone.
func FuzzOutgoing(f *testing.F) {
	for form := range stored() {
		f.Add([]byte(form))
	}
	f.Add([]byte(`{"text":"zanzibar","heard_ms":1,"entry_ms":-1,"stopped_ms":9223372036854775807}`))
	f.Add([]byte(`{"format":1000,"text":"zanzibar"}`))
	f.Add([]byte(`{"text":["zanzibar"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o, again parley.Outgoing
		err := o.DecodeContent(data)
		keepsSecret(t, data, err)
		send, errSend := parley.DecodeSend(data)
		if err != nil {
			return
		}
		if errSend != nil {
			t.Fatalf("%q is read as a message of the outbox, and alone: %v", data, errSend)
		}
		diff(t, "alone", o.Send, send)
		once, err := o.EncodeContent()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.DecodeContent(once); err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := again.EncodeContent(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s became %s, %v", once, twice, err)
		}
	})
}

// FuzzDeadLetter retries whatever a dead letter has in it. It becomes an event that can be
// read, or one message that is what the letter says, or an error that leaves the letter;
// and none of that changes whose letter it is.
func FuzzDeadLetter(f *testing.F) {
	for _, in := range inputs() {
		data, err := parley.EncodeInput(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
	}
	for _, e := range effects() {
		data, err := parley.EncodeEffect(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, false)
	}
	for _, data := range []string{"", "null", `{"effect":"send","value":{"text":"zanzibar"}}`, `{"effect":"send","value":{"format":9}}`, `{"kind":"x","effect":"y"}`, `{"kind":"message","input":{"text":"zanzibar"}`} {
		f.Add([]byte(data), true)
		f.Add([]byte(data), false)
	}
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "1"}, Contact: "user:2"}
	f.Fuzz(func(t *testing.T, data []byte, event bool) {
		d := parley.DeadLetter{ID: parley.NewID(time.UnixMilli(1), [16]byte{1}), Conversation: c, Data: data}
		if event {
			d.Seq = 7
			row, err := parley.RetryEvent(d, c, 9, 0)
			keepsSecret(t, data, err)
			if err != nil {
				checkStays(t, err)
				return
			}
			in, err := parley.DecodeInput(row.Data)
			if err != nil {
				t.Fatalf("%q becomes %q: %v", data, row.Data, err)
			}
			diff(t, "input", row.Input, in)
			if asStored := bytes.HasPrefix(data, []byte(`{"kind":"`+in.Kind()+`"`)); asStored && parley.OfOwn(row.Data) == d.Counted() {
				t.Errorf("%q becomes %q; as a letter it was counted: %v", data, row.Data, d.Counted())
			}
			return
		}
		commit, err := parley.RetryMessage(parley.Snapshot{Conversation: c, Last: time.UnixMilli(5)}, d, time.UnixMilli(6), [16]byte{2}, 0)
		keepsSecret(t, data, err)
		if err != nil {
			checkStays(t, err)
			return
		}
		if len(commit.Outbox) != 1 || commit.Outbox[0].ID != d.ID || d.Counted() {
			t.Errorf("%q becomes %+v", data, commit.Outbox)
		}
		if !json.Valid(commit.History) {
			t.Errorf("a record that isn't JSON: %s", commit.History)
		}
	})
}

// checkStays holds an error about a letter to what an operator is told to do about it.
func checkStays(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, parley.ErrFormat) && !errors.Is(err, parley.ErrAhead) {
		t.Errorf("a letter stays, and it isn't said why: %v", err)
	}
}
