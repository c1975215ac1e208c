package parley

import (
	"slices"
	"time"
)

// Speaker is who has the word in a conversation. The values are stored; they never
// change.
type Speaker string

// The speakers. Of a conversation that was never handed off it is the bot.
const (
	SpeakerBot    Speaker = ""
	SpeakerPerson Speaker = "person" // a colleague, in an inbox or on the phone
	SpeakerApp    Speaker = "app"    // another app
)

// HandOff gives the word to somebody else. As long as they have it, what the bot
// sends isn't sent: it is kept in the history as withheld, and the turn goes on as if
// it had been. Signals are sent, and what a person wrote (Send.HumanAgent). What the
// turn wanted to send before its HandOff is sent, too.
//
// What earlier turns have decided and is still in the outbox isn't sent either, not
// even later: the bot hears of each as SendFailed, with TakenOver. Only what is with
// the provider at that moment may still arrive.
//
// The bot goes on meeting the conversation's inputs, so that it knows what was said.
// It has the word again after Resume, or when the time is over, which it meets as
// [SpeakerReturned].
type HandOff struct {
	To  Speaker       `json:"to"`
	For time.Duration `json:"for,omitempty"` // from the turn's time; 0: until Resume
}

// Resume gives the word back to the bot.
type Resume struct{}

// EffectKind names an effect in the store.
func (HandOff) EffectKind() string { return "hand_off" }
func (Resume) EffectKind() string  { return "resume" }

func (HandOff) isEffect() {}
func (Resume) isEffect()  {}

// SpeakerReturned says that a hand-off's time is over: the bot has the word again.
type SpeakerReturned struct {
	From Speaker `json:"from,omitempty"` // who had it
}

// speakerTimer ends a hand-off. Bots can't have timers of such a name.
const (
	reservedNames = "parley."
	speakerTimer  = reservedNames + "speaker"
)

// HandOff gives the word to somebody else for a time; 0: until Resume.
func (t *Turn) HandOff(to Speaker, d time.Duration) { t.Do(HandOff{To: to, For: d}) }

// Resume gives the word back to the bot.
func (t *Turn) Resume() { t.Do(Resume{}) }

// Speaker is who has the word, after what the turn has done so far.
func (t *Turn) Speaker() Speaker {
	for _, e := range slices.Backward(t.effects) {
		switch e := e.(type) {
		case HandOff:
			return e.To
		case Resume:
			return SpeakerBot
		default: // leaves them the word
		}
	}
	return t.before.Speaker
}

// SpeakerUntil is when the bot has the word again, as the turn found it; zero if nobody
// knows, or if it has.
func (t *Turn) SpeakerUntil() time.Time { return t.before.SpeakerUntil() }

func (t *Turn) checkHandOff(h HandOff) {
	if h.To != SpeakerPerson && h.To != SpeakerApp {
		_ = t.over("hand-off to %q: want %q or %q", cut(string(h.To), MaxNameBytes), SpeakerPerson, SpeakerApp)
	}
	if h.For < 0 || h.For > MaxTimerAhead {
		_ = t.over("hand-off for %s: 0 to %s (MaxTimerAhead)", h.For, MaxTimerAhead)
	}
}

// SpeakerUntil is when the bot has the word again; zero if nobody knows, or if it has.
func (s *Snapshot) SpeakerUntil() time.Time {
	if i := s.timer(speakerTimer); i >= 0 {
		return s.Timers[i].Due
	}
	return time.Time{}
}

// OfBot reports whether the message is the bot's word, which is only sent while the
// bot has it: a signal says nothing, and what a person wrote is theirs.
func (s *Send) OfBot() bool { return s.Signal == nil && !s.HumanAgent }

// maySpeak reports whether s is sent, whoever has the word.
func (w *work) maySpeak(s *Send) bool { return w.next.Speaker == SpeakerBot || !s.OfBot() }

// handOff silences what the turns before have decided when the word leaves the bot.
// Who has it already, and has it anew, has silenced that; what the bot has said since
// are the words of the turn that handed it over, which may wait in the outbox.
func (w *work) handOff(h HandOff, now time.Time) {
	if w.next.Speaker == SpeakerBot {
		w.out.Silence = w.began
		w.moveThread(Signal{Kind: PassThread, App: w.c.Thread}, now)
	}
	w.resume()
	w.next.Speaker = h.To
	if h.For > 0 {
		w.setTimer(speakerTimer, h.For, now)
	}
}

// takeThread takes the thread back if somebody else has the word.
func (w *work) takeThread(now time.Time) {
	if w.next.Speaker != SpeakerBot {
		w.moveThread(Signal{Kind: TakeThread}, now)
	}
}

// moveThread lets the thread at Meta follow the word, behind what was said before, and
// before what is said afterwards. There is nothing to move for who has moved it, nor
// while somebody would read the signal as another.
func (w *work) moveThread(s Signal, now time.Time) {
	sort, _ := w.next.Conversation.Contact.Split()
	if w.c.Thread == "" || w.moved || sort != UserKey || readBy(w.c.Format, formatThread) != nil {
		return
	}
	w.effect(Send{Signal: &s}, now)
}

// movesThread reports whether an input shows that somebody else has taken the thread,
// or given it back: who speaks in the inbox has taken it.
func movesThread(in Input) bool {
	switch in.(type) {
	case Echo, ThreadControl, Overheard:
		return true
	default:
		return false
	}
}

func (w *work) resume() {
	w.cancel(speakerTimer)
	w.next.Speaker = SpeakerBot
}

// returned is what the bot hears of a hand-off that has ended by its time. One that
// is retried has ended before.
func (w *work) returned(f TimerFired, now time.Time) SpeakerReturned {
	if f.Retried {
		return SpeakerReturned{}
	}
	w.takeThread(now)
	in := SpeakerReturned{From: w.next.Speaker}
	w.next.Speaker = SpeakerBot
	return in
}
