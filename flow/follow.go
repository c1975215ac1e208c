package flow

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// The timers of a flow's own.
const (
	ownTimers   = "flow."
	heldTimer   = ownTimers + "held"
	followTimer = ownTimers + "follow."
)

// Follow is something to be said later, by itself. When its time comes it is the text
// if the platform lets the bot write as it likes, and the template if the contact has
// not written for too long. If neither can be sent, nothing is, and the rule for
// Timer(Name) is met instead.
type Follow struct {
	Name     string           `json:"name"` // another of this name replaces it
	In       time.Duration    `json:"-"`    // from the turn's time
	Text     string           `json:"text,omitempty"`
	Template *parley.Template `json:"template,omitempty"`
	// IfSilent drops it as soon as the contact writes.
	IfSilent bool `json:"if_silent,omitempty"`
	// AskAgain lets the form that waits for an answer repeat its question after Text.
	AskAgain bool `json:"ask_again,omitempty"`
}

// Follow says something later. One whose time comes while somebody else has the word is
// dropped.
func (t *Turn[S]) Follow(f Follow) {
	if f.Name == "" || len(followTimer)+len(f.Name) > parley.MaxNameBytes {
		t.fail("follow-up with a name of %d bytes: 1 to %d", len(f.Name), parley.MaxNameBytes-len(followTimer))
		return
	}
	if f.Text == "" && f.Template == nil {
		t.fail("follow-up %q: neither a text nor a template", f.Name)
		return
	}
	if f.Template != nil {
		s := parley.Send{Template: f.Template}
		if err := s.Validate(); err != nil {
			t.fail("follow-up %q: %w", f.Name, err)
			return
		}
	}
	b, err := json.Marshal(f)
	if err != nil || len(b) > MaxFollowBytes {
		t.fail("follow-up %q of %d bytes: at most %d (MaxFollowBytes)", f.Name, len(b), MaxFollowBytes)
		return
	}
	t.progress.Follows = slices.DeleteFunc(t.progress.Follows, func(g Follow) bool { return g.Name == f.Name })
	if len(t.progress.Follows) == MaxFollows {
		t.fail("follow-up %q: more than %d (MaxFollows)", f.Name, MaxFollows)
		return
	}
	t.progress.Follows = append(t.progress.Follows, f)
	t.Turn.SetTimer(followTimer+f.Name, f.In)
}

// CancelFollow drops the follow-up of that name, if there is one.
func (t *Turn[S]) CancelFollow(name string) {
	if _, ok := t.takeFollow(name); ok {
		t.CancelTimer(followTimer + name)
	}
}

// Following reports whether a follow-up of that name is to come.
func (t *Turn[S]) Following(name string) bool {
	return slices.ContainsFunc(t.progress.Follows, func(f Follow) bool { return f.Name == name })
}

func (t *Turn[S]) takeFollow(name string) (Follow, bool) {
	i := slices.IndexFunc(t.progress.Follows, func(f Follow) bool { return f.Name == name })
	if i < 0 {
		return Follow{}, false
	}
	f := t.progress.Follows[i]
	t.progress.Follows = slices.Delete(t.progress.Follows, i, i+1)
	return f, true
}

// dropSilent drops the follow-ups that were for a contact who stays silent.
func (t *Turn[S]) dropSilent() {
	for _, f := range slices.Backward(t.progress.Follows) {
		if f.IfSilent {
			t.CancelFollow(f.Name)
		}
	}
}

// fired handles a timer: one of the flow's own, or one of the developer's.
func (t *Turn[S]) fired(in parley.TimerFired) error {
	if in.Name == heldTimer {
		return t.release()
	}
	if name, ok := strings.CutPrefix(in.Name, followTimer); ok {
		f, kept := t.takeFollow(name)
		if !kept || t.followUp(f) {
			return nil
		}
	}
	return t.meet()
}

// forget takes note that a timer fired while somebody else had the word.
func (t *Turn[S]) forget(timer string) {
	if timer == heldTimer {
		t.drop()
	}
	if name, ok := strings.CutPrefix(timer, followTimer); ok {
		t.takeFollow(name)
	}
}

// followUp says what is to be said now, if anything can be.
func (t *Turn[S]) followUp(f Follow) bool {
	text, template := parley.Send{Text: f.Text}, parley.Send{Template: f.Template}
	switch {
	case f.Text != "" && t.Refuses(text, t.Now()) == "":
		t.Say(t.translated(f.Text))
		if form := t.form(); f.AskAgain && form != nil {
			form.ask(t)
		}
		return true
	case f.Template != nil && t.shows(f.Template) && t.Refuses(template, t.Now()) == "":
		t.Do(template)
		return true
	}
	return false
}

// shows reports whether the platform has a form for the template.
func (t *Turn[S]) shows(template *parley.Template) bool {
	switch t.Conversation().Channel.Kind {
	case parley.WhatsApp:
		return true
	case parley.Messenger:
		return template.Category == parley.Utility
	default:
		return false
	}
}
