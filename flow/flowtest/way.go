package flowtest

import (
	"fmt"
	"strings"

	"github.com/parleychat/parley"
)

// way is a way in which a transcript is played. Whichever it is, the same must come
// of it: that is what Parley promises the users of a bot, and what a bot must not
// break.
type way struct {
	name string
	// duplicated: every event comes twice in one turn, and once more afterwards.
	duplicated bool
	// crash: the process dies before each commit, and another one takes the turn from
	// what is stored.
	crash bool
	// stored: the snapshot is read from its stored form before each turn.
	stored bool
	// grouped: events that come one after the other are handled in one turn.
	grouped bool
	// watch, if set, is told of each turn, and can take it again.
	watch func(again func() parley.Commit, commit *parley.Commit) error
}

// effort is how many times more turns it may take.
func (w *way) effort() int {
	if w.duplicated {
		return 3
	}
	return 1
}

// otherWays are the ways beside the plain one.
func otherWays() []*way {
	return []*way{
		{name: "every event comes three times", duplicated: true},
		{name: "a crash before every commit", crash: true, stored: true},
		{name: "several events in one turn", grouped: true, stored: true},
	}
}

// fact is something that must be the same in all ways.
type fact struct {
	user string
	line string // where it came about, for the message; empty at the end
	text string
}

// done are the facts of all that was played.
func (p *player) done() []fact {
	var facts []fact
	for _, k := range p.w.talks {
		for i := range p.w.told {
			if t := &p.w.told[i]; t.talk == k {
				facts = append(facts, fact{k.user, p.place(t.step), strings.Join(t.lines(k.user), "\n")})
			}
		}
		for _, what := range checks() {
			facts = append(facts, fact{k.user, p.t.Name + ": at the end", what + " " + k.show(what, p.w.now)})
		}
	}
	return facts
}

// place is a step, as a person finds it.
func (p *player) place(step int) string {
	s := &p.t.Steps[step]
	line := ""
	if len(s.source) > 0 {
		line = s.source[0]
	}
	if s.Line == 0 {
		return line
	}
	return fmt.Sprintf("%s:%d: %s", p.t.Name, s.Line, line)
}

// differ says what first differs between the plain way and another; nil if nothing
// does.
func differ(w *way, plain, other []fact) error {
	for i := range max(len(plain), len(other)) {
		var a, b fact
		if i < len(plain) {
			a = plain[i]
		}
		if i < len(other) {
			b = other[i]
		}
		if a.user == b.user && a.text == b.text {
			continue
		}
		place := a.line
		if a.user != b.user || a.line == "" {
			place = b.line
		}
		return fmt.Errorf("%s\n\tif played with %q, %s's conversation goes another way; the first that differs:\n%s%s",
			place, w.name, orTitle(a.user, b.user), indented("\t  plain: ", a.text), indented("\t  here:  ", b.text))
	}
	return nil
}

// indented is a text of several lines behind a head.
func indented(head, text string) string {
	if text == "" {
		text = "(nothing)"
	}
	space := strings.Repeat(" ", len(strings.TrimPrefix(head, "\t")))
	var b strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			head = "\t" + space
		}
		b.WriteString(head + line + "\n")
	}
	return b.String()
}
