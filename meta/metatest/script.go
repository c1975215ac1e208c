package metatest

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a file of scripts.
const (
	scriptBytesMax = 1 << 20 // of the whole file
	scriptLinesMax = 1000    // of one script
	scriptTextMax  = 2000    // characters of a line; Messenger's limit on texts
	scriptsMax     = 1000
	scriptWaitMax  = 24 * time.Hour
	payloadIn      = 1000 // bytes of the payload of a button
)

// numberMark in a line is replaced by the number of the user's message.
const numberMark = "{n}"

//go:embed script.txt
var builtInScript []byte

// Script is what one user says, line after line, and again from the beginning.
type Script []Line

// Line is one message of a user.
type Line struct {
	Text   string        // what is said; or the payload, if it is a click
	Click  bool          // on a button or quick reply of that payload
	Wait   time.Duration // before it is said, instead of the think time; 0 = none given
	Expect string        // must be in a reply to it; empty = anything
	Silent bool          // no reply is owed
}

// ParseScripts reads scripts as people write them. Each line is a message; an
// empty line ends a script, and users take the scripts in turn. "{n}" in a line
// stands for the number of the user's message, by which a reply that quotes the
// message is recognised. A line that begins with "#" is a comment, and one that
// begins with "/" a directive:
//
//	/click PAYLOAD   the user clicks a button with that payload
//	/wait 5s         before the next message, instead of the think time
//	/expect WORDS    a reply to the message before must contain the words
//	/silent          no reply is owed to the message before
//	//text           a message that begins with "/" or, as /#text, with "#"
//
// The error names the line.
func ParseScripts(file []byte) ([]Script, error) {
	if len(file) > scriptBytesMax {
		return nil, fmt.Errorf("scripts: the file has more than %d bytes", scriptBytesMax)
	}
	var p scriptParser
	lines := bufio.NewScanner(bytes.NewReader(file))
	lines.Buffer(nil, scriptBytesMax+1)
	for n := 1; lines.Scan(); n++ {
		if err := p.line(strings.TrimSpace(lines.Text())); err != nil {
			return nil, fmt.Errorf("scripts: line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("scripts: %w", err)
	}
	if err := p.end(); err != nil {
		return nil, fmt.Errorf("scripts: at the end: %w", err)
	}
	if len(p.all) == 0 {
		return nil, errors.New("scripts: no message in the file")
	}
	return p.all, nil
}

// BuiltInScripts are what users say who were given no script.
func BuiltInScripts() []Script {
	scripts, err := ParseScripts(builtInScript)
	if err != nil {
		panic(err) // a test reads it
	}
	return scripts
}

type scriptParser struct {
	all  []Script
	open Script
	wait time.Duration
}

func (p *scriptParser) line(text string) error {
	switch {
	case !utf8.ValidString(text):
		return errors.New("not UTF-8")
	case text == "":
		return p.end()
	case strings.HasPrefix(text, "#"):
		return nil
	case strings.HasPrefix(text, "//"), strings.HasPrefix(text, "/#"):
		return p.say(Line{Text: text[1:]})
	case !strings.HasPrefix(text, "/"):
		return p.say(Line{Text: text})
	}
	word, rest, _ := strings.Cut(text, " ")
	return p.directive(word, strings.TrimSpace(rest))
}

func (p *scriptParser) directive(word, rest string) error {
	switch word {
	case "/click":
		if rest == "" || len(rest) > payloadIn {
			return fmt.Errorf("/click needs a payload of 1 to %d bytes", payloadIn)
		}
		return p.say(Line{Text: rest, Click: true})
	case "/wait":
		d, err := time.ParseDuration(rest)
		if err != nil || d <= 0 || d > scriptWaitMax {
			return errors.New("/wait needs a duration such as 5s, of at most 24h")
		}
		p.wait = d
		return nil
	case "/expect", "/silent":
		return p.about(word, rest)
	}
	return fmt.Errorf("%s is none of /click, /wait, /expect, /silent; a message that begins with \"/\" begins with \"//\" here", strconv.Quote(word))
}

// about reads what is said about the message before.
func (p *scriptParser) about(word, rest string) error {
	if len(p.open) == 0 {
		return fmt.Errorf("%s stands after the message that it is about", word)
	}
	last := &p.open[len(p.open)-1]
	switch {
	case word == "/silent" && rest == "" && last.Expect == "":
		last.Silent = true
	case word == "/expect" && rest != "" && utf8.RuneCountInString(rest) <= scriptTextMax && !last.Silent:
		last.Expect = rest
	default:
		return errors.New("/expect needs words, /silent none, and a message has one of them")
	}
	return nil
}

func (p *scriptParser) say(l Line) error {
	switch {
	case utf8.RuneCountInString(l.Text) > scriptTextMax:
		return fmt.Errorf("a message has at most %d characters", scriptTextMax)
	case len(p.open) == scriptLinesMax:
		return fmt.Errorf("a script has at most %d messages", scriptLinesMax)
	}
	l.Wait, p.wait = p.wait, 0
	p.open = append(p.open, l)
	return nil
}

func (p *scriptParser) end() error {
	switch {
	case p.wait != 0:
		return errors.New("/wait stands before a message")
	case len(p.open) == 0:
		return nil
	case len(p.all) == scriptsMax:
		return fmt.Errorf("a file has at most %d scripts", scriptsMax)
	}
	p.all = append(p.all, p.open)
	p.open = nil
	return nil
}

// AppendScripts writes scripts in the form that [ParseScripts] reads.
func AppendScripts(b []byte, scripts []Script) []byte {
	for i, s := range scripts {
		if i > 0 {
			b = append(b, '\n')
		}
		for _, l := range s {
			b = l.append(b)
		}
	}
	return b
}

func (l Line) append(b []byte) []byte {
	if l.Wait > 0 {
		b = append(b, "/wait "+l.Wait.String()+"\n"...)
	}
	switch {
	case l.Click:
		b = append(b, "/click "...)
	case strings.HasPrefix(l.Text, "/"), strings.HasPrefix(l.Text, "#"):
		b = append(b, '/')
	}
	b = append(append(b, l.Text...), '\n')
	switch {
	case l.Silent:
		b = append(b, "/silent\n"...)
	case l.Expect != "":
		b = append(b, "/expect "+l.Expect+"\n"...)
	}
	return b
}
