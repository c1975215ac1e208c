package pizzeria_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/pizzeria"
	"github.com/parleychat/parley/flow/flowtest"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, pizzeria.Bot(), "testdata/*.txt")
}

// say lets a bot handle the nth command of a conversation.
func say(bot *parley.Bot, s parley.Snapshot, n int) parley.Commit {
	at := time.UnixMilli(1_800_000_000_000 + 2*int64(n)) // each is a step
	row := parley.Pending{
		Row: parley.Row{Seq: parley.Seq(n)}, Conversation: s.Conversation, Key: parley.NewEventKey(fmt.Sprint(n)),
		Received: at, Input: parley.Message{ID: fmt.Sprint(n), Text: fmt.Sprintf("say %d", n)},
	}
	return parley.Step(bot, s, []parley.Pending{row}, parley.Circumstance{Nonce: [16]byte{byte(n)}})
}

// At whatever step an order is, the second version goes on where the first was; and a
// state that was made by somebody who didn't understand it is found out.
func TestVersions(t *testing.T) {
	t.Parallel()
	second := pizzeria.Bot()
	first := second.Previous
	for upgraded := 1; upgraded <= 8; upgraded++ {
		s := parley.Snapshot{}
		for n := 1; n <= 10; n++ {
			bot := first
			if n >= upgraded {
				bot = &second
			}
			c := say(bot, s, n)
			if want := fmt.Sprintf("said %d #%d", n, n); len(c.Dead) > 0 || len(c.Outbox) != 1 || c.Outbox[0].Send.Text != want || c.Next.BotVersion != bot.Version {
				t.Fatalf("upgraded at %d, command %d: %+v", upgraded, n, c)
			}
			s = c.Next
		}
		s.BotVersion = 1 // as if the first version could read it
		if c := say(first, s, 11); len(c.Dead) == 0 {
			t.Errorf("the first version goes on with %s", s.State)
		}
		s.State = []byte(`{"commands":10,"steps":10,"pizza":"Diavola"}`)
		s.BotVersion = 2 // as if it had been overwritten, or the migration skipped
		if c := say(&second, s, 11); len(c.Dead) == 0 {
			t.Errorf("the second version goes on with %s", s.State)
		}
	}
}
