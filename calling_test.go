package parley_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
)

// TestCallContent: what was written is read, by this program and, in the words below,
// by every later one.
func TestCallContent(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]parley.Call{
		`{"name":"order","service":"crm"}`: {Name: "order", Service: "crm"},
		`{"name":"order","service":"crm","method":"PUT","path":"/orders/7?full=1","body":{"a":1},"within":60000000000}`: {
			Name: "order", Service: "crm", Method: "PUT", Path: "/orders/7?full=1", Body: json.RawMessage(`{"a":1}`), Within: time.Minute,
		},
	} {
		var got parley.OutgoingCall
		if err := got.DecodeContent([]byte(stored)); err != nil || !cmp.Equal(got.Call, want) {
			t.Errorf("%s is %+v, %v", stored, got.Call, err)
		}
		if again, err := got.EncodeContent(); err != nil || string(again) != stored {
			t.Errorf("stored as %s, %v", again, err)
		}
	}
}

func TestCallContentRefuses(t *testing.T) {
	t.Parallel()
	c := parley.OutgoingCall{Call: parley.Call{Name: "before"}}
	if err := c.DecodeContent([]byte(`{"format":9,"name":"n","novelty":1}`)); !errors.Is(err, parley.ErrFormat) {
		t.Errorf("of a newer generation: %v", err)
	}
	if err := c.DecodeContent([]byte(`{"name":`)); err == nil || errors.Is(err, parley.ErrFormat) {
		t.Errorf("torn: %v", err)
	}
	if c.Call.Name != "before" {
		t.Error("it took what it refused")
	}
}

// FuzzCallContent: whatever can be read is written, and read again, as the same.
func FuzzCallContent(f *testing.F) {
	f.Add([]byte(`{"name":"n","service":"s","path":"/x","body":[1, 2],"within":5}`))
	f.Add([]byte(`{"format":3,"body":null}`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		var c, again parley.OutgoingCall
		if c.DecodeContent(stored) != nil {
			return
		}
		b, err := c.EncodeContent()
		if err != nil {
			t.Fatalf("%q was read and can't be written: %v", stored, err)
		}
		if err := again.DecodeContent(b); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if twice, err := again.EncodeContent(); err != nil || !bytes.Equal(twice, b) {
			t.Fatalf("%q and then %q", b, twice)
		}
	})
}
