package flowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// MaxTranscriptBytes is the size of one transcript.
const MaxTranscriptBytes = 1 << 20

// Transcript is what users do and what a bot says to it, line by line.
// docs/testing-bots.md describes its text form, which [Parse] reads and String writes.
type Transcript struct {
	Name  string // of its file, for messages
	Steps []Step
}

// Step is a line of a transcript, with what happens because of it.
type Step struct {
	// Line is where it begins in its file, from 1; 0 if it comes from none.
	Line int
	// Said are the lines of what happens: what the bot says, what becomes a dead letter.
	// Of one that checks something (state, timers …) it is the line itself. What goes on
	// in another line begins there with four spaces.
	Said []string

	source []string // as it was written, without Said
	act    action
}

// action is what a line tells to happen.
type action interface{ play(p *player) error }

type (
	// remark is a comment, or an empty line.
	remark struct{}
	// platform is the one that all talk on.
	platform struct{ kind parley.ChannelKind }
	// jump sets the clock, at first, and lets time pass until then later.
	jump struct{ to time.Time }
	// wait lets time pass.
	wait struct{ d time.Duration }
	// release lets another release of the bot go on; the first is 1.
	release struct{ number int }
	// happens is an input of the conversation with a user, of the last one if empty. A
	// message that it should name and doesn't is the last one.
	happens struct {
		user  string
		input parley.Input
	}
	// chooses presses something that the bot offered.
	chooses struct {
		user, title string
		payload     *string // nil: whichever it has
	}
	// misses says that a message of the bot was not delivered.
	misses struct {
		user, message string
		code          int
		reason        string
	}
	// answers answers the oldest call of a service that waits.
	answers struct {
		service string
		with    Answer
	}
	// stub answers calls of a service from now on.
	stub struct {
		service, method, path string
		body                  json.RawMessage // empty: any
		with                  Answer
	}
	// check shows something of a conversation, see checks.
	check struct{ what, user string }
)

// A syntaxError says what is wrong with a line.
type syntaxError struct {
	name string
	line int
	err  error
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s:%d: %v", e.name, e.line, e.err) }
func (e *syntaxError) Unwrap() error { return e.err }

// Parse reads a transcript. The name is that of its file; an error begins with it and
// the number of the line.
func Parse(name, text string) (*Transcript, error) {
	if len(text) > MaxTranscriptBytes {
		return nil, &syntaxError{name, 1, fmt.Errorf("transcript of %d bytes: at most %d (MaxTranscriptBytes)", len(text), MaxTranscriptBytes)}
	}
	t := &Transcript{Name: name}
	r := reader{t: t, last: -1}
	if text != "" {
		for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if err := r.line(i+1, strings.TrimRight(line, " \t\r")); err != nil {
				return nil, &syntaxError{name, i + 1, err}
			}
		}
	}
	for i := range t.Steps {
		if err := t.Steps[i].parse(); err != nil {
			return nil, &syntaxError{name, t.Steps[i].Line, err}
		}
	}
	return t, nil
}

// reader sorts lines into steps.
type reader struct {
	t    *Transcript
	last int       // the last step that isn't a remark
	open *[]string // what a line that begins with a space continues; nil: nothing
	said bool      // open is what happened
}

func (r *reader) line(number int, line string) error {
	begins := strings.TrimLeft(line, " \t")
	switch {
	case line == "" || line[0] == '#':
		r.t.Steps = append(r.t.Steps, Step{Line: number, source: []string{line}, act: remark{}})
		r.open = nil
	case len(begins) < len(line):
		if r.open == nil {
			return errors.New("begins with a space, and there is no line that it continues")
		}
		if r.said {
			begins = more + begins
		}
		*r.open = append(*r.open, begins)
	case happened(line):
		if r.last < 0 {
			return fmt.Errorf("%q before anything happened", word(line))
		}
		step := &r.t.Steps[r.last]
		step.Said = append(step.Said, line)
		r.open, r.said = &step.Said, true
	default:
		r.t.Steps = append(r.t.Steps, Step{Line: number, source: []string{line}})
		r.last = len(r.t.Steps) - 1
		r.open, r.said = &r.t.Steps[r.last].source, false
	}
	return nil
}

// more begins a line that continues the one before.
const more = "    "

// happened reports whether a line tells of what happened, not of what is to happen.
func happened(line string) bool {
	switch word(line) {
	case "bot", "dead", "(after":
		return true
	}
	return false
}

// word is the first word of a line, without a colon behind it.
func word(line string) string {
	end := strings.IndexAny(line, " \t:")
	if end < 0 {
		return line
	}
	return line[:end]
}

func (s *Step) parse() (err error) {
	if s.act != nil {
		return nil
	}
	if s.act, err = parseAction(s.source); err != nil {
		return err
	}
	if c, ok := s.act.(check); ok {
		if len(s.Said) > 0 {
			return fmt.Errorf("%s tells nobody anything: nothing happens because of it", c.what)
		}
		s.Said, s.source = c.want(s.source[0]), nil
	}
	return nil
}

// String is the text form, which Parse reads: the lines as they were written, and
// Said after them.
func (t *Transcript) String() string {
	var b strings.Builder
	for i := range t.Steps {
		for j, line := range t.Steps[i].source {
			if j > 0 {
				b.WriteString(more)
			}
			b.WriteString(line)
			b.WriteByte('\n')
		}
		for _, line := range t.Steps[i].Said {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// same reports whether the same things happen in both, whose steps are the same.
func (t *Transcript) same(o *Transcript) bool {
	return slices.EqualFunc(t.Steps, o.Steps, func(a, b Step) bool { return slices.Equal(a.Said, b.Said) })
}
