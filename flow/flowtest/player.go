package flowtest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// MaxUsers is the number of people in one transcript.
const MaxUsers = 64

// player plays a transcript, step by step.
type player struct {
	kit   *Kit
	w     *world
	t     *Transcript // as it is played: with what happens
	user  string      // who acted last
	moved bool        // something happened: platform and clock are settled
	plain *player     // that of the plain way, if this is another
	// inputs are what each step brought, and lone those that led to one turn and to
	// nothing further.
	inputs map[int]parley.Input
	lone   map[int]bool
}

// morning is when a transcript begins that doesn't say: a Monday.
func morning() time.Time { return time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) }

func newPlayer(k *Kit, w *way, plain *player) *player {
	bot := k.Bot
	return &player{
		kit:   k,
		w:     &world{bot: &bot, way: w, kind: parley.WhatsApp, now: morning(), services: k.Services, encodes: k.Encodes},
		t:     &Transcript{},
		plain: plain, inputs: map[int]parley.Input{}, lone: map[int]bool{},
	}
}

// play plays all steps. The error says at which it stopped.
func (p *player) play(script *Transcript) error {
	p.t.Name = script.Name
	for i := range script.Steps {
		next := i + 1
		for next < len(script.Steps) && script.Steps[next].act == (remark{}) {
			next++
		}
		held := p.w.way.grouped && p.plain.lone[i] && next < len(script.Steps) && isEvent(script.Steps[next].act)
		if err := p.do(script.Steps[i], held); err != nil {
			return &syntaxError{script.Name, script.Steps[i].Line, err}
		}
	}
	return p.w.settle()
}

// isEvent reports whether a step brings an event and nothing else.
func isEvent(a action) bool {
	switch a.(type) {
	case happens, chooses:
		return true
	}
	return false
}

// do plays one step, and adds it to what was played. Held events wait for the next
// ones, to be handled in one turn with them.
func (p *player) do(s Step, held bool) error {
	i := len(p.t.Steps)
	p.t.Steps = append(p.t.Steps, Step{Line: s.Line, source: s.source, act: s.act})
	p.w.step, p.w.busy = i, 0
	from, began, rows := len(p.w.told), p.w.now, p.w.seq
	if err := s.act.play(p); err != nil {
		return err
	}
	if s.act == (remark{}) || held {
		return nil
	}
	if err := p.w.settle(); err != nil {
		return err
	}
	p.lone[i] = p.w.seq == rows+1
	p.t.Steps[i].Said = append(p.t.Steps[i].Said, p.lines(p.w.told[from:], began)...)
	return nil
}

// lines are what was told, for whom it wasn't meant for by the last user, and after
// which time.
func (p *player) lines(all []told, began time.Time) []string {
	var lines []string
	at := p.w.now
	for _, t := range all {
		if !t.at.Equal(at) {
			lines, at = append(lines, "(after "+shownDuration(t.at.Sub(began))+")"), t.at
		}
		lines = append(lines, t.lines(p.user)...)
	}
	return lines
}

// lines are the lines that tell it, if somebody acted last.
func (t *told) lines(user string) []string {
	line := t.who
	if t.talk.user != user {
		line += map[string]string{"bot": " to ", "dead": " of "}[t.who] + t.talk.user
	}
	if t.status != "" {
		line += " (" + t.status + ")"
	}
	out := []string{line + t.head}
	for _, r := range t.rest {
		out = append(out, more+r)
	}
	return out
}

// talk is the conversation with a user, of the last one if empty.
func (p *player) talk(user string) (*talk, error) {
	if user == "" {
		user = p.user
	}
	if user == "" {
		return nil, errors.New("nobody has done anything yet")
	}
	for _, k := range p.w.talks {
		if k.user == user {
			return k, nil
		}
	}
	if len(p.w.talks) == MaxUsers {
		return nil, fmt.Errorf("more than %d users (MaxUsers)", MaxUsers)
	}
	k := newTalk(user, p.w.kind)
	p.w.talks = append(p.w.talks, k)
	return k, nil
}

// act is the conversation with a user who acts.
func (p *player) act(user string) (*talk, error) {
	k, err := p.talk(user)
	if err == nil {
		p.user, p.moved = k.user, true
	}
	return k, err
}

// event brings an input to a conversation.
func (p *player) event(k *talk, in parley.Input) error {
	step := len(p.t.Steps) - 1
	p.inputs[step] = in
	return p.w.arrive(k, in, parley.NewEventKey("flowtest", k.user, strconv.Itoa(step)), p.w.now)
}

func (remark) play(*player) error { return nil }

func (a platform) play(p *player) error {
	if p.moved {
		return errors.New("the platform is told before anything happens")
	}
	p.w.kind = a.kind
	return nil
}

func (a jump) play(p *player) error {
	if !p.moved {
		p.w.now = a.to
		return nil
	}
	if a.to.Before(p.w.now) {
		return fmt.Errorf("it is %s already", p.w.now.Format(time.DateTime))
	}
	return p.w.pass(a.to)
}

func (a wait) play(p *player) error {
	p.moved = true
	return p.w.pass(p.w.now.Add(a.d))
}

// play takes the bot of that release, with which the conversations go on.
func (a release) play(p *player) error {
	known := append(slices.Clone(p.kit.Earlier), p.kit.Bot)
	if a.number < 1 || a.number > len(known) {
		return fmt.Errorf("release %d: the kit has 1 to %d (Earlier, and Bot, the last)", a.number, len(known))
	}
	p.w.bot = &known[a.number-1]
	return nil
}

func (a happens) play(p *player) error {
	k, err := p.act(a.user)
	if err != nil {
		return err
	}
	in := p.known()
	if in == nil {
		if in, err = k.complete(a.input); err != nil {
			return err
		}
	}
	return p.event(k, in)
}

// complete fills in the ids that a line leaves out.
func (k *talk) complete(in parley.Input) (parley.Input, error) {
	next := func(id string) string {
		if id == "" {
			k.messages++
			id = "m" + strconv.Itoa(k.messages)
		}
		return id
	}
	switch in := in.(type) {
	case parley.Message:
		in.ID = next(in.ID)
		k.last = in.ID
		return in, nil
	case parley.Postback:
		in.ID = next(in.ID)
		return in, nil
	case parley.Echo:
		in.ID = next(in.ID)
		return in, nil
	case parley.Edited:
		var err error
		in.ID, err = k.own(in.ID)
		return in, err
	case parley.Deleted:
		var err error
		in.ID, err = k.own(in.ID)
		return in, err
	case parley.Reaction:
		if in.MessageID == "" {
			o, err := k.message("")
			if err != nil {
				return nil, err
			}
			in.MessageID = botID(o)
		}
		return in, nil
	default: // names nothing that a line leaves out
		return in, nil
	}
}

// own is the id of the user's own message, of the last one if none is named.
func (k *talk) own(id string) (string, error) {
	if id != "" {
		return id, nil
	}
	if k.last == "" {
		return "", fmt.Errorf("%s has sent nothing yet", k.user)
	}
	return k.last, nil
}

func (a chooses) play(p *player) error {
	k, err := p.act(a.user)
	if err != nil {
		return err
	}
	in := p.known()
	if in == nil {
		if in, err = k.choose(p.w.kind, a.title, a.payload); err != nil {
			return err
		}
		if in, err = k.complete(in); err != nil {
			return err
		}
	}
	return p.event(k, in)
}

// known is what the step brought when it was played in the plain way: in another, what
// it refers to may not have been sent yet. Nil in the plain way itself.
func (p *player) known() parley.Input {
	if p.plain == nil {
		return nil
	}
	return p.plain.inputs[len(p.t.Steps)-1]
}

func (a misses) play(p *player) error {
	k, err := p.act(a.user)
	if err != nil {
		return err
	}
	o, err := k.message(a.message)
	if err != nil {
		return err
	}
	in := parley.SendFailed{ID: o.ID, ProviderID: botID(o), Code: a.code, Reason: a.reason}
	return p.w.arrive(k, in, parley.NewEventKey("send_failed", k.user, botID(o), "failed"), p.w.now)
}

func (a answers) play(p *player) error {
	for _, k := range p.w.talks {
		for i := range k.calls {
			if k.calls[i].Call.Service == a.service {
				return p.w.reply(k, i, a.with)
			}
		}
	}
	return fmt.Errorf("no call of %s waits for an answer", a.service)
}

func (a stub) play(p *player) error {
	p.w.stubs = append(p.w.stubs, a)
	return nil
}

func (c check) play(p *player) error {
	k, err := p.talk(c.user)
	if err != nil {
		return err
	}
	value := k.show(c.what, p.w.now)
	p.t.Steps[len(p.t.Steps)-1].Said = []string{c.head() + " " + value}
	return nil
}

// show is what a check shows of the conversation.
func (k *talk) show(what string, now time.Time) string {
	s := &k.snapshot
	var parts []string
	switch what {
	case "state":
		if len(s.State) > 0 {
			return string(s.State)
		}
	case "timers":
		for _, t := range byDue(s.Timers) {
			parts = append(parts, shownWord(t.Name)+" in "+shownDuration(t.Due.Sub(now)))
		}
	case "tags":
		for _, t := range s.Tags {
			parts = append(parts, shownWord(t))
		}
	case "attributes":
		for _, a := range s.Attributes {
			parts = append(parts, shownWord(a.Name)+"="+shownWord(a.Value))
		}
	case "calls":
		for _, c := range k.calls {
			parts = append(parts, strings.TrimPrefix(shownCall(&c.Call), " calls "))
		}
	case "speaker":
		return k.showSpeaker(now)
	case "behavior":
		parts = append(parts, shownWord(s.Behavior))
		if s.Behavior == "" {
			return none
		}
	}
	if len(parts) == 0 {
		return none
	}
	return strings.Join(parts, ", ")
}

func (k *talk) showSpeaker(now time.Time) string {
	if k.snapshot.Speaker == parley.SpeakerBot {
		return "bot"
	}
	out := string(k.snapshot.Speaker)
	if until := k.snapshot.SpeakerUntil(); !until.IsZero() {
		out += " for " + shownDuration(until.Sub(now))
	}
	return out
}

func byDue(timers []parley.Timer) []parley.Timer {
	sorted := slices.Clone(timers)
	slices.SortFunc(sorted, func(a, b parley.Timer) int {
		if c := a.Due.Compare(b.Due); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return sorted
}
