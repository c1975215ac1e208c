package parley_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
)

// What programs of the first generation read as it is meant stays theirs to read,
// byte by byte; each other part of a send is of a later one, also a part that is
// added some day.
func TestSendFormat(t *testing.T) {
	t.Parallel()
	const first = `{"text":"Which?","quick_replies":[{"title":"A","payload":"a"}]}`
	b, err := parley.EncodeSend(parley.Send{Text: "Which?", QuickReplies: []parley.QuickReply{{Title: "A", Payload: "a"}}})
	if err != nil || string(b) != first {
		t.Errorf("stored as %s, %v: want %s", b, err, first)
	}
	of := reflect.TypeFor[parley.Send]()
	for i := range of.NumField() {
		name := of.Field(i).Name
		s := parley.Send{Text: "x"}
		given(t, reflect.ValueOf(&s).Elem().Field(i))
		want := 2
		if name == "Text" || name == "QuickReplies" {
			want = 1
		}
		if got := s.Format(); got != want {
			t.Errorf("a send with %s is of format %d, want %d", name, got, want)
		}
		stored, err := parley.EncodeSend(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parley.DecodeSend(stored); err != nil || !cmp.Equal(got, s) {
			t.Errorf("%s is read as %+v, %v", name, got, err)
		}
		var told struct{ Format int }
		if err := json.Unmarshal(stored, &told); err != nil || max(told.Format, 1) != want {
			t.Errorf("%s is stored with format %d, %v: want %d", name, told.Format, err, want)
		}
	}
}

// A program that doesn't know the signals about threads would take them for Typing.
func TestThreadFormat(t *testing.T) {
	t.Parallel()
	for kind, want := range map[parley.SignalKind]int{parley.Typing: 2, parley.MarkRead: 2, parley.PassThread: 5, parley.TakeThread: 5} {
		s := parley.Send{Signal: &parley.Signal{Kind: kind}}
		if got := s.Format(); got != want {
			t.Errorf("%s is of format %d, want %d", kind, got, want)
		}
	}
}

// given makes a field something else than nothing.
func given(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() { //nolint:exhaustive // of the fields that a send has
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	default:
		t.Fatalf("no value for a %s: add one", v.Type())
	}
}

// A newer send is refused, not sent with parts of it left out.
func TestDecodeSendRefuses(t *testing.T) {
	t.Parallel()
	if _, err := parley.DecodeSend(fmt.Appendf(nil, `{"format":%d,"text":"x","novelty":{}}`, parley.Format+1)); !errors.Is(err, parley.ErrFormat) {
		t.Errorf("a newer send: %v, want ErrFormat", err)
	}
	if _, err := parley.DecodeSend([]byte(`{"text":`)); err == nil || errors.Is(err, parley.ErrFormat) {
		t.Errorf("half a send: %v", err)
	}
}

// While somebody reads only the first generation, when a contact was heard is left
// out, and the message is handled; a contact's word that it wants no marketing takes
// the second all the same. What is stored in the second already stays there.
func TestStepFormat(t *testing.T) {
	t.Parallel()
	bot := &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(t *parley.Turn) error { t.Say("ok"); return nil })}
	at := time.UnixMilli(1_800_000_000_000)
	stop := parley.Preference{Value: "stop"}
	for name, c := range map[string]struct {
		in            parley.Input
		heard         parley.Heard
		oldest, want  int
		told, stopped bool
	}{
		"AllReadIt":    {in: parley.Message{ID: "m", Text: "hi"}, want: 2, told: true},
		"OneDoesNot":   {in: parley.Message{ID: "m", Text: "hi"}, oldest: 1, want: 1},
		"Stop":         {in: stop, oldest: 1, want: 2, stopped: true},
		"KnownAlready": {in: parley.Message{ID: "m", Text: "hi"}, heard: parley.Heard{Stopped: at}, oldest: 1, want: 1, told: true, stopped: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := parley.Snapshot{Conversation: parley.Conversation{Channel: parley.Channel{Brand: "b", Kind: parley.WhatsApp, ID: "1"}, Contact: "phone:1"}, Heard: c.heard}
			rows := []parley.Pending{{Row: parley.Row{Seq: 1}, Conversation: s.Conversation, Key: parley.NewEventKey("k"), Received: at, Input: c.in}}
			got := parley.Step(bot, s, rows, parley.Circumstance{Format: c.oldest})
			if h := got.Next.Heard; got.Format != c.want || h.At.IsZero() == c.told || h.Stopped.IsZero() == c.stopped {
				t.Errorf("a commit of format %d with %+v", got.Format, h)
			}
		})
	}
}
