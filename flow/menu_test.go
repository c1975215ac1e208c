package flow_test

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
	"github.com/parleychat/parley/meta"
)

func menuBot(text string, options []flow.Option) parley.Bot {
	return bot(flow.Flow[memory]{Start: func(t *flow.Turn[memory]) error {
		if t.Said() == "menu" {
			t.Offer(text, options...)
			return nil
		}
		t.Say("chose " + t.Chosen() + " by " + t.Said())
		return nil
	}})
}

// An option is met by its payload, whether it was pressed, written or numbered.
func TestMenuIsUnderstood(t *testing.T) {
	t.Parallel()
	options := []flow.Option{{Title: "Small", Payload: "S"}, {Title: "Größe L", Payload: "L"}, {Title: "3"}}
	play(t, menuBot("Size?", options), `
		> 2
		< chose  by 2
		> menu
		< Size? [Small] [Größe L] [3]
		> [Small]
		< chose S by Small
		> grosse l!
		< chose L by grosse l!
		# Where no numbers were shown, a number is only an answer.
		> 1
		< chose  by 1
		# A title goes before a number.
		> 3
		< chose 3 by 3
		> 4
		< chose  by 4
		* L
		< chose L by
		* s
		< chose s by
		> something else
		< chose  by something else`)
}

// What has no room on the platform is numbered text, and understood all the same.
func TestMenuNumbered(t *testing.T) {
	t.Parallel()
	options := flow.Titles("a title of more than twenty-four", "b", "b")
	for _, kind := range []parley.ChannelKind{parley.WhatsApp, parley.Messenger, parley.Instagram, parley.WhatsAppAccount, "new"} {
		playOn(t, menuBot("Which?", options), kind, `
			> menu
			< Which? / 1. a title of more than twenty-four / 2. b / 3. b / Reply with the number of your choice.
			> 1.
			< chose a title of more than twenty-four by 1.
			# Two of one title: only the number says which.
			> b
			< chose  by b
			> 3
			< chose b by 3`)
	}
}

func TestMenuShapes(t *testing.T) {
	t.Parallel()
	four := flow.Titles("a", "b", "c", "d")
	told := []flow.Option{{Title: "a", Description: "first"}, {Title: "b"}}
	playOn(t, menuBot("?", four), parley.WhatsApp, "> menu\n< ? {a} {b} {c} {d}")
	playOn(t, menuBot("?", four), parley.Messenger, "> menu\n< ? [a] [b] [c] [d]")
	playOn(t, menuBot("?", told), parley.WhatsApp, "> menu\n< ? {a} {b}")
	playOn(t, menuBot("?", told), parley.Instagram, "> menu\n< ? / • a: first [a] [b]")
	long := strings.Repeat("word ", 300) // 1500 characters: above buttons there are 1024
	playOn(t, menuBot(long, flow.Titles("a")), parley.WhatsApp, "> menu\n< "+
		strings.TrimSpace(strings.Repeat("word ", 205))+"\n< "+strings.TrimSpace(strings.Repeat("word ", 95))+" [a]")
}

func TestMenuLimits(t *testing.T) {
	t.Parallel()
	for limit, options := range map[string][]flow.Option{
		"0 options":            nil,
		"MaxOptions":           flow.Titles(strings.Split(strings.Repeat("a,", 30), ",")...),
		"MaxTitleBytes":        flow.Titles(strings.Repeat("x", 257)),
		"title of 0 bytes":     flow.Titles(""),
		"MaxPayloadCharacters": {{Title: "x", Payload: strings.Repeat("é", 201)}},
		"description of 300":   {{Title: "x", Description: strings.Repeat("x", 300)}},
	} {
		c := meet(menuBot("?", options), parley.Message{Text: "menu"})
		if len(c.Dead) != 1 || !strings.Contains(c.Dead[0].Cause, limit) {
			t.Errorf("want a dead letter with %q, got %v", limit, c.Dead)
		}
	}
}

// No text and no menu becomes something that a platform refuses, and all that it says
// arrives.
func TestNothingIsRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		kind := rapid.SampledFrom([]parley.ChannelKind{parley.Messenger, parley.Instagram, parley.WhatsApp}).Draw(r, "kind")
		words := rapid.SliceOfN(rapid.StringMatching(`[a-zé😀]{1,30}[ .\n]{0,2}`), 1, 40).Draw(r, "words")
		text := strings.Join(words, "")
		text = strings.Repeat(text, rapid.IntRange(1, 12).Draw(r, "times"))
		var options []flow.Option
		for range rapid.IntRange(0, flow.MaxOptions).Draw(r, "options") {
			options = append(options, flow.Option{
				Title:       rapid.StringMatching(`[a-z😀]{1,20}( [a-z]{1,6})?`).Draw(r, "title"),
				Payload:     rapid.StringMatching(`[a-z]{0,3}`).Draw(r, "payload"),
				Description: rapid.StringMatching(`([a-z]{1,80})?`).Draw(r, "description"),
			})
		}
		b := bot(flow.Flow[memory]{Start: func(t *flow.Turn[memory]) error {
			if len(options) > 0 {
				t.Offer(text, options...)
			} else {
				t.Say(text)
			}
			return nil
		}})
		sends := met(r, b, kind)
		var said strings.Builder
		for _, o := range sends {
			if _, _, err := meta.EncodeSend(&o, meta.Sending{}); err != nil {
				r.Fatalf("%s refuses: %v", kind, err)
			}
			said.WriteString(o.Send.Text)
			for _, q := range o.Send.QuickReplies {
				said.WriteString(q.Title)
			}
			if o.Send.List != nil {
				for _, row := range o.Send.List.Sections[0].Rows {
					said.WriteString(row.Title + row.Description)
				}
			}
		}
		if got := squeezed(said.String()); !strings.HasPrefix(got, squeezed(text)) {
			r.Fatalf("said %q of %q", got, text)
		}
		for _, o := range options {
			if !strings.Contains(squeezed(said.String()), squeezed(o.Title)) || !strings.Contains(squeezed(said.String()), squeezed(o.Description)) {
				r.Fatalf("option %q is lost", o)
			}
		}
	})
}

// squeezed is a text without its space, which may go where it is parted.
func squeezed(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

// fatal is a test, of Go's or of rapid's.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// met is what a bot says to a first message.
func met(r fatal, b parley.Bot, kind parley.ChannelKind) []parley.Outgoing {
	r.Helper()
	contact := parley.Contact(parley.PhoneKey + "49151")
	if kind != parley.WhatsApp {
		contact = parley.UserKey + "49151"
	}
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: kind, ID: "1"}, Contact: contact}
	rows := []parley.Pending{{Row: parley.Row{Seq: 1, Token: 1}, Conversation: c, Key: parley.NewEventKey("1"), Input: parley.Message{Text: "menu"}}}
	commit := parley.Step(&b, parley.Snapshot{Conversation: c}, rows, parley.Circumstance{})
	if len(commit.Dead) > 0 {
		r.Fatalf("dead letter: %s", commit.Dead[0].Cause)
	}
	return commit.Outbox
}

// Around each number of options, length and likeness at which a platform's form ends.
func TestMenuAtTheLimits(t *testing.T) {
	t.Parallel()
	for _, kind := range []parley.ChannelKind{parley.Messenger, parley.Instagram, parley.WhatsApp} {
		for _, n := range []int{1, 2, 3, 4, 10, 11, 13, 14, flow.MaxOptions} {
			for _, length := range []int{2, 20, 21, 24, 25} {
				for _, described := range []int{0, 72, 73} {
					options := make([]flow.Option, n)
					for i := range options {
						options[i].Title = strings.Repeat("é", length-2) + string(rune('a'+i/10)) + string(rune('a'+i%10))
						options[i].Description = strings.Repeat("é", described)
					}
					renders(t, kind, options)
					options[n-1].Payload = options[0].Title // answers like another
					renders(t, kind, options)
					options[n-1] = options[0] // is another
					renders(t, kind, options)
				}
			}
		}
	}
}

func renders(t *testing.T, kind parley.ChannelKind, options []flow.Option) {
	t.Helper()
	for _, o := range met(t, menuBot("?", options), kind) {
		if _, _, err := meta.EncodeSend(&o, meta.Sending{}); err != nil {
			t.Fatalf("%s refuses %d options like %+v: %v", kind, len(options), options[0], err)
		}
	}
}
