// Package flowtest tests bots with go test and nothing else. It plays transcripts, text
// files of what users do and what the bot says, through [parley.Step]: no store, no
// cluster, no clock. Time is virtual, so that three weeks pass in milliseconds.
//
//	# testdata/order.txt
//	anna: hi
//	bot: Which pizza would you like? [Margherita] [Salami]
//	anna: [Salami]
//	bot: One Salami. What size? [Small] [Large]
//	wait 30m
//	bot: Are you still hungry?
//
//	func TestOrder(t *testing.T) { flowtest.Run(t, pizza.Bot(), "testdata/*.txt") }
//
// go test -update writes what the bot says into the files.
//
// Each transcript is then played in other ways, as the real line might: every event
// comes several times, the process dies before every commit, several events are handled
// in one turn. And each turn is taken several times, with another clock at last. What
// comes of it must always be the same: where it isn't, the test fails, and names the
// way and the first difference.
//
// [New] is for tests that compute: the same world, moved by calls.
//
// docs/testing-bots.md shows all that a transcript can say.
package flowtest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parleychat/parley"
)

// update is the flag -update of go test. In a program it isn't there, and where the
// test package has one of that name already, that one counts.
var update = updateFlag()

func updateFlag() *bool {
	off := new(bool)
	if !testing.Testing() || flag.Lookup("update") != nil {
		return off
	}
	return flag.Bool("update", false, "write what the bots say into the transcripts")
}

// Kit is a bot to be tested, with what the world around it does.
type Kit struct {
	Bot parley.Bot
	// Earlier are earlier releases of the bot, oldest first, for transcripts that begin
	// with one of them and go on with another. Bot is the last.
	Earlier []parley.Bot
	// Services answer the bot's calls, by the service's name. They must be pure, like
	// the bot. What a transcript says comes first.
	Services map[string]Service
	// Encodes, if set, says whether the platform can show a message, as
	// meta.EncodeSend does. One that it can't is shown as dead.
	Encodes func(*parley.Outgoing) error
	// PlainOnly leaves out the other ways of playing, and the search for impurity.
	PlainOnly bool
}

// Run plays the transcripts that match the patterns against the bot, each as a subtest.
func Run(t *testing.T, bot parley.Bot, patterns ...string) {
	t.Helper()
	Kit{Bot: bot}.Run(t, patterns...)
}

// Run plays the transcripts that match the patterns, each as a subtest.
func (k Kit) Run(t *testing.T, patterns ...string) {
	t.Helper()
	var paths []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no transcript matches %q (%v)", pattern, err)
		}
		paths = append(paths, found...)
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			k.file(t, path)
		})
	}
}

// file plays one transcript, and compares or writes.
func (k *Kit) file(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	script, err := Parse(filepath.ToSlash(path), string(text))
	if err != nil {
		t.Fatal(err)
	}
	plain := newPlayer(k, &way{name: "plain"}, nil)
	if err := plain.play(script); err != nil {
		t.Fatal(err)
	}
	switch {
	case script.same(plain.t):
	case *update:
		if err := os.WriteFile(path, []byte(plain.t.String()), 0o644); err != nil { //nolint:gosec // source code
			t.Fatal(err)
		}
	default:
		t.Errorf("the bot doesn't say what is written (- written, + said; go test -update writes what it says)\n%s", diff(script, plain.t))
	}
	k.otherWays(t, script, plain)
}

// otherWays plays the script in all other ways.
func (k *Kit) otherWays(t *testing.T, script *Transcript, plain *player) {
	t.Helper()
	if k.PlainOnly {
		return
	}
	if err := k.pure(t, script); err != nil {
		t.Error(err)
		return // whatever else differs comes from that
	}
	facts := plain.done()
	for _, w := range otherWays() {
		p := newPlayer(k, w, plain)
		err := p.play(script)
		if err == nil {
			err = differ(w, facts, p.done())
		} else {
			err = fmt.Errorf("if played with %q: %w", w.name, err)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// pure plays the script in a bubble, where the clock stands still until it is moved.
func (k *Kit) pure(t *testing.T, script *Transcript) (err error) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		p := newPlayer(k, &way{name: "every turn again", watch: impurity(time.Sleep)}, nil)
		err = p.play(script)
	})
	return err
}

// Play plays a script against the bot, in the plain way, and returns it with what is
// said now.
func (k *Kit) Play(script *Transcript) (*Transcript, error) {
	p := newPlayer(k, &way{name: "plain"}, nil)
	err := p.play(script)
	return p.t, err
}

// Verify plays a script in the plain way and in all others, but with the clock as it
// is. It says what is wrong with the bot; what it says to the script is not compared.
func (k *Kit) Verify(script *Transcript) error {
	plain := newPlayer(k, &way{name: "plain"}, nil)
	if err := plain.play(script); err != nil {
		return err
	}
	if err := newPlayer(k, &way{watch: impurity(nil)}, nil).play(script); err != nil {
		return err
	}
	var errs []error
	for _, w := range otherWays() {
		p := newPlayer(k, w, plain)
		err := p.play(script)
		if err == nil {
			err = differ(w, plain.done(), p.done())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
