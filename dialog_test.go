package parley_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// dialog runs one turn after the other: each is an input and what the bot does of it.
type dialog struct {
	t      *testing.T
	s      parley.Snapshot
	seq    int
	now    time.Duration
	heard  []parley.Input // as the behaviour met them
	thread string         // see parley.Circumstance
	reads  int
	last   parley.Commit
}

func newDialog(t *testing.T) *dialog {
	t.Helper()
	return &dialog{t: t, s: fresh()}
}

// turn lets the bot do what f does about an input.
func (d *dialog) turn(in parley.Input, f func(*parley.Turn)) parley.Commit {
	d.t.Helper()
	d.seq++
	d.now += time.Second
	row := pend(d.seq, fmt.Sprint("key", d.seq), in)
	row.Received = after(d.now)
	bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		d.heard = append(d.heard, t.Input())
		f(t)
		return nil
	})}
	c := drawn(byte(d.seq))
	c.Thread, c.Format = d.thread, d.reads
	d.last = parley.Step(bot, d.s, []parley.Pending{row}, c)
	data, err := d.last.Next.AppendBinary(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.s = parley.Snapshot{Conversation: talk()}
	if err := d.s.UnmarshalBinary(data); err != nil {
		d.t.Fatal(err)
	}
	return d.last
}

func (d *dialog) effects(effects ...parley.Effect) parley.Commit {
	d.t.Helper()
	return d.turn(parley.Message{Text: "x"}, func(t *parley.Turn) { _ = do(effects...)(t) })
}

// While somebody else has the word, nothing of the bot's is sent, and the history
// tells of it.
func TestHandOff(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	c := d.effects(text(1), parley.HandOff{To: parley.SpeakerPerson}, text(2))
	diff(t, "around the hand-off", []string{"x"}, texts(c))
	diff(t, "withheld", 1, c.Withheld)
	if n := strings.Count(string(c.History), `"effect":"withheld"`); n != 1 || !json.Valid(c.History) {
		t.Errorf("%d withheld in the history %s", n, c.History)
	}
	var who parley.Speaker
	c = d.turn(parley.Message{}, func(t *parley.Turn) {
		who = t.Speaker()
		t.Say("no")
		t.Do(parley.Send{Text: "a person's", HumanAgent: true})
		t.Do(parley.Send{Signal: &parley.Signal{Kind: parley.Typing, MessageID: "m"}})
		t.Resume()
		t.Say("yes")
	})
	diff(t, "speaker", parley.SpeakerPerson, who)
	diff(t, "of one turn", []string{"a person's", "", "yes"}, texts(c))
	diff(t, "withheld", 1, c.Withheld)
	diff(t, "afterwards", parley.SpeakerBot, d.s.Speaker)
}

// The turn that gives the word away silences what the turns before have decided, and
// not its own; one that only renews the hand-off doesn't.
func TestHandOffSilences(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	toPerson, toApp := parley.HandOff{To: parley.SpeakerPerson}, parley.HandOff{To: parley.SpeakerApp}
	for i, step := range []struct {
		what    string
		effects []parley.Effect
		silence uint64
	}{
		{"nothing was said", []parley.Effect{text(1), toPerson}, 0},
		{"back", []parley.Effect{parley.Resume{}, text(2), text(3)}, 0},
		{"handed over", []parley.Effect{text(4), toPerson, text(5)}, 3},
		{"renewed", []parley.Effect{toPerson}, 0},
		{"handed on", []parley.Effect{toApp}, 0},
		{"taken and given in a turn", []parley.Effect{parley.Resume{}, text(6), toApp}, 4},
	} {
		if c := d.effects(step.effects...); c.Silence != step.silence {
			t.Errorf("turn %d, %s: silences up to %d, want %d", i, step.what, c.Silence, step.silence)
		}
	}
}

// Turns that are committed together silence what they would have one by one.
func TestHandOffSilencesItsCommit(t *testing.T) {
	t.Parallel()
	bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		t.Say("said")
		if m, _ := t.Input().(parley.Message); m.Text == "person" {
			t.HandOff(parley.SpeakerPerson, 0)
		}
		return nil
	})}
	rows := []parley.Pending{pend(1, "a", parley.Message{}), pend(2, "b", parley.Message{}), pend(3, "c", parley.Message{Text: "person"})}
	c := parley.Step(bot, fresh(), rows, drawn(1))
	diff(t, "messages", 3, len(c.Outbox))
	diff(t, "silences up to", uint64(2), c.Silence)
}

// A merge gives the word of both to who has it on one side: the other's bot is
// silenced.
func TestMergeSilences(t *testing.T) {
	t.Parallel()
	a, b := newDialog(t), newDialog(t)
	a.effects(text(1), text(2))
	b.effects(text(1))
	b.s.Conversation = other()
	into, from := merge(a.s, b.s)
	diff(t, "both bots'", []uint64{0, 0}, []uint64{into.Silence, from.Silence})
	b.effects(text(2), parley.HandOff{To: parley.SpeakerPerson})
	b.s.Conversation = other()
	into, from = merge(a.s, b.s)
	diff(t, "the survivor's", []uint64{2, 0}, []uint64{into.Silence, from.Silence})
	into, from = merge(b.s, a.s)
	diff(t, "the younger's", []uint64{0, 2}, []uint64{into.Silence, from.Silence})
}

// The thread at Meta follows the word, behind what was said before, if an app is told
// that gets it, unless what came in shows that it has moved already.
func TestHandOffMovesTheThread(t *testing.T) {
	t.Parallel()
	toPerson := parley.HandOff{To: parley.SpeakerPerson, For: time.Hour}
	pass, take := parley.Signal{Kind: parley.PassThread, App: "263902037430900"}, parley.Signal{Kind: parley.TakeThread}
	begin := func(in parley.Input, do ...parley.Effect) (*dialog, []parley.Send) {
		d := newDialog(t)
		d.thread = pass.App
		return d, sends(d.turn(in, func(t *parley.Turn) {
			for _, e := range do {
				t.Do(e)
			}
		}))
	}
	said := func(n int) parley.Send { s, _ := text(n).(parley.Send); return s }
	message := parley.Message{Text: "x"}
	d, got := begin(message, text(1), toPerson, parley.Send{Text: "mine", HumanAgent: true})
	diff(t, "handed over", []parley.Send{said(1), {Signal: &pass}, {Text: "mine", HumanAgent: true}}, got)
	diff(t, "renewed", nil, sends(d.effects(toPerson)))
	timer := d.s.Timers[0]
	fired := parley.TimerFired{Name: timer.Name, Generation: timer.Generation, Due: timer.Due}
	diff(t, "returned", []parley.Send{{Signal: &take}, said(2)}, sends(d.turn(fired, func(t *parley.Turn) { t.Do(text(2)) })))
	diff(t, "the bot's already", nil, sends(d.effects(parley.Resume{})))
	d.effects(toPerson)
	diff(t, "resumed", []parley.Send{{Signal: &take}, said(3)}, sends(d.effects(parley.Resume{}, text(3))))
	for _, in := range []parley.Input{parley.Echo{Text: "x"}, parley.ThreadControl{Action: "take"}, parley.Overheard{Of: "message"}} {
		_, got = begin(in, toPerson)
		diff(t, "moved by another: "+in.Kind(), nil, got)
	}
	d = newDialog(t)
	diff(t, "not configured", nil, sends(d.effects(toPerson)))
	d = newDialog(t)
	d.thread, d.reads = pass.App, 4
	diff(t, "not read by all", nil, sends(d.effects(toPerson)))
}

func sends(c parley.Commit) (all []parley.Send) {
	for _, o := range c.Outbox {
		all = append(all, o.Send)
	}
	return all
}

// A hand-off ends by its time, once; the end of the dialogue doesn't end it.
func TestHandOffEnds(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	d.effects(parley.SetTimer{Name: "own", In: time.Hour}, parley.HandOff{To: parley.SpeakerPerson, For: time.Hour})
	c := d.effects(parley.HandOff{To: parley.SpeakerPerson, For: 2 * time.Hour}, parley.End{})
	if len(d.s.Timers) != 1 || d.s.Speaker != parley.SpeakerPerson {
		t.Fatalf("after the end: %d timers, speaker %q", len(d.s.Timers), d.s.Speaker)
	}
	timer := d.s.Timers[0]
	diff(t, "until", c.Next.Last.Add(2*time.Hour), d.s.SpeakerUntil())
	fired := parley.TimerFired{Name: timer.Name, Generation: timer.Generation, Due: timer.Due}
	d.heard = nil
	diff(t, "says", []string{"back"}, texts(d.turn(fired, func(t *parley.Turn) { t.Say("back") })))
	diff(t, "hears", []parley.Input{parley.SpeakerReturned{From: parley.SpeakerPerson}}, d.heard)
	d.effects(parley.HandOff{To: parley.SpeakerApp})
	d.turn(fired, func(*parley.Turn) { t.Error("a timer of the past was heard") })
	diff(t, "speaker", parley.SpeakerApp, d.s.Speaker)
}

// An answer is heard once, if the conversation still waits for it.
func TestCalls(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	ask := parley.Call{Name: "q", Service: "llm", Body: json.RawMessage(`{"q":1}`)}
	first := d.effects(ask).Calls
	if len(first) != 1 || first[0].Call.Name != "q" || first[0].Conversation != talk() || !first[0].At.Equal(d.s.Last) {
		t.Fatalf("calls %+v", first)
	}
	c := d.effects(ask, ask)
	if len(c.Calls) != 1 || len(c.CancelCalls) != 1 || c.CancelCalls[0] != first[0].ID {
		t.Fatalf("replaced: calls %+v, cancelled %v", c.Calls, c.CancelCalls)
	}
	d.heard = nil
	old := first[0].Answer(200, []byte(`1`), 1)
	d.turn(old, func(*parley.Turn) {})
	diff(t, "of a replaced call", nil, d.heard)
	good := c.Calls[0].Answer(200, []byte(`{"a":2}`), 1)
	d.turn(good, func(t *parley.Turn) {
		if t.Calling("q") {
			d.t.Error("answered, and still calling")
		}
		t.Call(ask)
		if !t.Calling("q") {
			d.t.Error("not calling what has just been called")
		}
		t.CancelCall("q")
	})
	d.turn(good, func(*parley.Turn) {})
	diff(t, "heard", []parley.Input{good}, d.heard)
	diff(t, "live", nil, d.s.Calls)
	diff(t, "made and cancelled at once", 0, len(d.last.Calls)+len(d.last.CancelCalls))
	letter, err := parley.EncodeInput(good)
	if err != nil {
		t.Fatal(err)
	}
	row, err := parley.RetryEvent(parley.DeadLetter{ID: parley.ID{9}, Seq: 1, Data: letter}, talk(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	d.heard = nil
	d.turn(row.Input, func(*parley.Turn) {})
	diff(t, "retried, heard", 1, len(d.heard))
	ended := d.effects(ask).Calls[0]
	c = d.effects(parley.End{})
	diff(t, "ended", []parley.ID{ended.ID}, c.CancelCalls)
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	c := parley.OutgoingCall{ID: parley.ID{1}, Call: parley.Call{Name: "q", Service: "s"}}
	for status, want := range map[int]parley.CallFailure{200: "", 204: "", 302: parley.CallRefused, 404: parley.CallRefused} {
		in := c.Answer(status, []byte(`{"a":1}`), 3)
		if in.Failure != want || in.OK() != (want == "") || in.Attempts != 3 {
			t.Errorf("status %d: %+v", status, in)
		}
	}
	long := c.Answer(200, make([]byte, parley.MaxAnswerBytes+1), 1)
	if long.Failure != parley.CallTooLarge || long.Body != nil || !strings.Contains(long.Reason, "MaxAnswerBytes") {
		t.Errorf("a long answer: %+v", long)
	}
	var v struct{ A int }
	if err := c.Answer(200, []byte(`{"a":1}`), 1).Decode(&v); err != nil || v.A != 1 {
		t.Errorf("decoded %+v, %v", v, err)
	}
	if err := c.Answer(200, []byte(`secret`), 1).Decode(&v); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nonsense: %v", err)
	}
}

// A path stays below the service's URL, on its host.
func TestCallIsRefused(t *testing.T) {
	t.Parallel()
	for path, ok := range map[string]bool{
		"": true, "/a/b": true, "?q=1": true, "/a?b=/../c": true, "/a.b/..c": true,
		"a": false, "//evil.example": false, "/a/../b": false, "/%2e%2E/b": false, "/.": false, `/\evil`: false, "/a b": false, "/a#b": false, "/a\r\nb": false,
		"@evil.example": false, ":80/": false,
	} {
		d := newDialog(t)
		if c := d.effects(parley.Call{Name: "q", Service: "s", Path: path}); (len(c.Dead) == 0) != ok {
			t.Errorf("path %q: %q, want ok %t", path, causes(c), ok)
		}
	}
	for _, bad := range []parley.Call{{Method: "TRACE"}, {Method: "get"}, {Body: json.RawMessage(`{`)}} {
		bad.Name, bad.Service = "q", "s"
		if c := newDialog(t).effects(bad); len(c.Dead) != 1 {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// What is known of the contact stays, whatever becomes of the dialogue.
func TestAttributesAndTags(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	d.turn(parley.Message{}, func(t *parley.Turn) {
		t.SetAttribute("language", "de")
		t.SetAttribute("city", "Trier")
		t.SetAttribute("gone", "x")
		t.SetAttribute("gone", "")
		t.Tag("vip")
		t.Tag("new")
		t.Untag("new")
		if t.Attribute("language") != "de" || t.Attribute("gone") != "" || !t.Tagged("vip") || t.Tagged("new") {
			d.t.Error("what was set can't be seen")
		}
		t.End()
	})
	diff(t, "attributes", []parley.Attribute{{Name: "city", Value: "Trier"}, {Name: "language", Value: "de"}}, d.s.Attributes)
	diff(t, "tags", []string{"vip"}, d.s.Tags)
	d.turn(parley.Message{}, func(t *parley.Turn) {
		if t.Attribute("language") != "de" || !t.Tagged("vip") || t.Tagged("other") {
			d.t.Error("what was known is not")
		}
		t.SetAttribute("city", "")
		t.Untag("vip")
	})
	diff(t, "attributes", []parley.Attribute{{Name: "language", Value: "de"}}, d.s.Attributes)
	diff(t, "tags", nil, d.s.Tags)
}

func TestMaxAttributesAndTags(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	for i := range 2 * parley.MaxAttributes { // some beyond the limit
		d.effects(parley.SetAttribute{Name: fmt.Sprint(i), Value: "v"}, parley.Tag{Name: fmt.Sprint(i)})
	}
	if a, g := len(d.s.Attributes), len(d.s.Tags); a != parley.MaxAttributes || g != parley.MaxTags {
		t.Errorf("%d attributes, %d tags", a, g)
	}
}

// What only the newest generation has is told apart, and stored so that it can be
// read for ever.
func TestDialogFormat(t *testing.T) {
	t.Parallel()
	id := parley.ID{1, 15: 2}
	s, plain := storedSnapshot()
	s.Speaker, s.Calls, s.Tags = parley.SpeakerPerson, []parley.LiveCall{{ID: id, Name: "q"}}, []string{"vip"}
	s.Attributes = []parley.Attribute{{Name: "a", Value: "b"}}
	data, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "04" + plain[2:] + "00" + "00" + "000000" + "06" + hex.EncodeToString([]byte("person")) +
		"01" + "01" + strings.Repeat("00", 14) + "02" + "0171" + "01" + "01610162" + "01" + "03766970"
	diff(t, "stored", want, hex.EncodeToString(data))
	refusesSpoiled(t, s, 5)
	for _, e := range []parley.Effect{
		parley.Call{Name: "q", Service: "s"}, parley.HandOff{To: parley.SpeakerApp}, parley.SetAttribute{Name: "a", Value: "b"}, parley.Tag{Name: "g"},
	} {
		d := newDialog(t)
		if c := d.effects(e); c.Format != 3 {
			t.Errorf("%T takes generation %d", e, c.Format)
		}
		if c := d.effects(text(1)); c.Format > 2 {
			t.Errorf("a turn after %T takes generation %d: what is stored is of it already", e, c.Format)
		}
	}
}

// Two conversations with the same person know what either knew.
func TestMergeDialog(t *testing.T) {
	t.Parallel()
	a, b := newDialog(t), newDialog(t)
	a.effects(parley.SetAttribute{Name: "x", Value: "a"}, parley.Call{Name: "q", Service: "s"}, parley.Tag{Name: "g"})
	b.effects(parley.SetAttribute{Name: "x", Value: "b"}, parley.SetAttribute{Name: "y", Value: "b"}, parley.Call{Name: "q", Service: "s"},
		parley.Call{Name: "r", Service: "s"}, parley.HandOff{To: parley.SpeakerPerson, For: time.Hour})
	b.s.Conversation = other()
	into, _ := merge(a.s, b.s)
	diff(t, "attributes", []parley.Attribute{{Name: "x", Value: "a"}, {Name: "y", Value: "b"}}, into.Next.Attributes)
	diff(t, "calls", []parley.LiveCall{a.s.Calls[0], b.s.Calls[1]}, into.Next.Calls)
	diff(t, "speaker", parley.SpeakerPerson, into.Next.Speaker)
	diff(t, "until", b.s.SpeakerUntil(), into.Next.SpeakerUntil())
	a.effects(parley.HandOff{To: parley.SpeakerApp})
	into, _ = merge(a.s, b.s)
	if into.Next.Speaker != parley.SpeakerApp || !into.Next.SpeakerUntil().IsZero() {
		t.Errorf("speaker %q until %v: the other's time ends this one's", into.Next.Speaker, into.Next.SpeakerUntil())
	}
}

// What was kept is buried as it was stored, also what only a newer program can read;
// the turn itself holds.
func TestBury(t *testing.T) {
	t.Parallel()
	const kept = `{"kind":"of a newer program","input":{"x":1}}`
	d := newDialog(t)
	c := d.turn(parley.Message{}, func(t *parley.Turn) {
		t.Bury([]byte(kept), errors.New("no answer"))
		t.Say("sorry")
	})
	diff(t, "says", []string{"sorry"}, texts(c))
	if len(c.Dead) != 1 || string(c.Dead[0].Data) != kept || !strings.Contains(c.Dead[0].Cause, "no answer") {
		t.Errorf("dead letters %+v", c.Dead)
	}
	if want := `"buried":[{"in":` + kept + `,"not":"error: no answer"}]}]}`; !strings.HasSuffix(string(c.History), want) {
		t.Errorf("history %s\nwant it to end with %s", c.History, want)
	}
	c = d.turn(parley.Message{}, func(t *parley.Turn) { t.Bury([]byte("not JSON\xff"), errors.New("\xff")) })
	if !json.Valid(c.History) {
		t.Errorf("history isn't JSON: %s", c.History)
	}
	c = d.turn(parley.Message{}, func(t *parley.Turn) {
		for range parley.MaxEffects + 1 {
			t.Bury([]byte(kept), errors.New("no answer"))
		}
	})
	if got := causes(c); len(got) != 1 || !strings.Contains(got[0], "MaxEffects") {
		t.Errorf("beyond the limit: %q", got)
	}
}
