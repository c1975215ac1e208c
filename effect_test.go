package parley_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// effects has each effect once.
func effects() []parley.Effect {
	return []parley.Effect{
		parley.Send{Text: "hello", QuickReplies: []parley.QuickReply{{Title: "yes", Payload: "y"}}},
		parley.Send{Text: "look", Preview: true},
		parley.SetTimer{Name: "t", In: time.Second},
		parley.CancelTimer{Name: "t"},
		parley.Call{Name: "c", Service: "crm", Path: "/x", Body: []byte(`{"a":1}`)},
		parley.CancelCall{Name: "c"},
		parley.HandOff{To: parley.SpeakerPerson, For: time.Hour},
		parley.Resume{},
		parley.SetAttribute{Name: "n", Value: "v"},
		parley.Tag{Name: "vip"},
		parley.Untag{Name: "vip"},
		parley.Become{Behavior: "b"},
		parley.End{},
	}
}

// TestDecodeEffect: what is encoded is read back, and nothing else is taken for an effect.
func TestDecodeEffect(t *testing.T) {
	t.Parallel()
	for _, e := range effects() {
		data, err := parley.EncodeEffect(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parley.DecodeEffect(data)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %#v, %v", data, got, err)
		}
	}
	for data, want := range map[string]string{
		`{"effect":"sing"}`: `effect "sing"`,
		`{"effect":"send","value":{"text":"a","colour":1}}`: "decode send",
		`{"effect":"tag","value":{"name":"a"},"more":1}`:    "unknown field",
		`{"effect":"tag","value":{"name":"a"}} {}`:          "something behind it",
		`{"effect":"send","value":{"format":99}}`:           "format 99",
		`[]`: "decode effect",
		``:   "decode effect",
	} {
		_, err := parley.DecodeEffect([]byte(data))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", data, err, want)
		}
	}
	if _, err := parley.DecodeEffect([]byte(`{"effect":"sing"}`)); !errors.Is(err, parley.ErrFormat) {
		t.Errorf("an unknown effect: %v", err)
	}
}

// FuzzDecodeEffect: what is read can be written, and is read back the same.
func FuzzDecodeEffect(f *testing.F) {
	for _, e := range effects() {
		data, err := parley.EncodeEffect(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parley.DecodeEffect(data)
		if err != nil {
			return
		}
		once, err := parley.EncodeEffect(e)
		if err != nil {
			t.Fatalf("%#v can't be written: %v", e, err)
		}
		again, err := parley.DecodeEffect(once)
		if err != nil {
			t.Fatalf("%s can't be read: %v", once, err)
		}
		twice, err := parley.EncodeEffect(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
	})
}
