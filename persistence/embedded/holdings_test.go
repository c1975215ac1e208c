package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// TestExportGoesOn: from each place between two parts, the rest is exported, in
// the same order.
func TestExportGoesOn(t *testing.T) {
	t.Parallel()
	s := open(t, embedded.Config{Dir: "store", FS: vfs.NewMem()})
	const events = 9000
	for k := range 9 {
		var a parley.Arrivals
		for i := range events / 9 {
			name := fmt.Sprint(k, "-", i)
			a.Events = append(a.Events, parley.Event{
				Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}, Contacts: []parley.Contact{parley.Contact("user:" + name)},
				Key: parley.NewEventKey(name), Input: parley.Message{Text: name},
			})
		}
		a.Quarantined = []parley.Quarantined{{App: "app", Body: make([]byte, 1<<20)}}
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	type cut struct {
		place  []byte
		before parley.Tally
	}
	var whole parley.Tally
	var cuts []cut
	err := s.Export(t.Context(), nil, func(part parley.Holdings, upTo []byte) error {
		if n, _ := part.Items(); n > 3000 {
			t.Errorf("a part of %d items", n)
		}
		if len(cuts) > 0 && bytes.Compare(upTo, cuts[len(cuts)-1].place) <= 0 {
			t.Errorf("place %x after %x", upTo, cuts[len(cuts)-1].place)
		}
		whole.Add(&part)
		cuts = append(cuts, cut{bytes.Clone(upTo), whole})
		return nil
	})
	if err != nil || whole.Items() != events+9 || len(cuts) < 8 {
		t.Fatalf("%d items in %d parts: %v", whole.Items(), len(cuts), err)
	}
	for _, c := range cuts {
		got := c.before
		err := s.Export(t.Context(), c.place, func(part parley.Holdings, _ []byte) error {
			got.Add(&part)
			return nil
		})
		if err != nil || got != whole {
			t.Errorf("from %x: %d items, %v", c.place, got.Items(), err)
		}
	}
}

func TestExportEnds(t *testing.T) {
	t.Parallel()
	s := open(t, embedded.Config{Dir: "store", FS: vfs.NewMem()})
	if _, err := s.Register(t.Context(), parley.Registration{App: "app", Channel: parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "p"}}); err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	if err := s.Export(t.Context(), nil, func(parley.Holdings, []byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("an error of the other side: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Export(ctx, nil, func(parley.Holdings, []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestExistingMakesNothing: a folder that was named by mistake stays as it is.
func TestExistingMakesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := embedded.Open(embedded.Config{Dir: dir, Existing: true}); err == nil {
		t.Fatal("it opened a store that isn't there")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it made something: %v", err)
	}
	open(t, embedded.Config{Dir: dir})
}
