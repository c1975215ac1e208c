package flow

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An envelope is read and written with each turn, and nearly always holds no more than
// the question that was asked. encoding/json takes longer for that than for the rest of
// the flow's turn, so it is done here, in the form in which encoding/json writes it.
// Whatever looks different is left to encoding/json.

// sealEnvelope is the envelope of the progress and an encoded state. Not ok: there is
// something in it that this doesn't write.
func sealEnvelope(p *progress, state []byte) (stored []byte, ok bool) {
	if len(p.Held)+len(p.Follows) > 0 || p.Since != 0 || p.Until != "" || p.Number && p.Offered == "" {
		return nil, false
	}
	w := writer{out: make([]byte, 0, len(p.Offered)+len(state)+128), ok: true}
	w.put(envelopePrefix + "{")
	if !p.Form.IsZero() {
		w.put(`"form":`)
		w.filling(&p.Form)
		if p.Offered != "" {
			w.put(",")
		}
	}
	if p.Offered != "" {
		w.put(`"offered":`)
		w.text(p.Offered)
	}
	if p.Number {
		w.put(`,"number":true`)
	}
	w.put(`},"$state":`)
	return append(append(w.out, state...), '}'), w.ok
}

// writer writes JSON. What it can't write makes it not ok.
type writer struct {
	out []byte
	ok  bool
}

func (w *writer) put(s string) { w.out = append(w.out, s...) }

func (w *writer) filling(f *filling) {
	w.put(`{"form":`)
	w.text(f.Form)
	if f.Field != "" {
		w.put(`,"field":`)
		w.text(f.Field)
	}
	if f.Tries != 0 {
		w.put(`,"tries":`)
		w.out = strconv.AppendInt(w.out, int64(f.Tries), 10)
	}
	for i, name := range f.Given {
		if i == 0 {
			w.put(`,"given":[`)
		} else {
			w.put(",")
		}
		w.text(name)
	}
	if len(f.Given) > 0 {
		w.put("]")
	}
	w.put("}")
}

// text writes what the reader's text reads, without what encoding/json escapes for the
// sake of web pages: 0xe2 is the first byte of the line and paragraph separators.
func (w *writer) text(s string) {
	w.put(`"`)
	wide, from := false, 0
	for i := range len(s) {
		switch c := s[i]; {
		case small(c) != 0, c == ' ': // nearly all are
		case c == '\n', c == '\t':
			w.put(s[from:i])
			w.put(escapes(c))
			from = i + 1
		case c < ' ', c == '"', c == '\\', c == '<', c == '>', c == '&', c == 0x7f, c == 0xe2:
			w.ok = false
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
	w.put(s[from:])
	w.ok = w.ok && (!wide || utf8.ValidString(s))
	w.put(`"`)
}

// escapes is how the end of a line or a tab is written.
func escapes(c byte) string {
	if c == '\n' {
		return `\n`
	}
	return `\t`
}

// openEnvelope reads the progress of a stored envelope into p, which is empty, and returns
// its state, as stored. Not ok: it has something in it that this doesn't read.
func openEnvelope(stored []byte, p *progress) (state []byte, ok bool) {
	r := reader{rest: stored, ok: true}
	r.must(envelopePrefix + "{")
	offered := `"offered":`
	if r.skip(`"form":{"form":`) {
		r.filling(&p.Form)
		r.must("}")
		offered = `,"offered":`
	}
	if r.skip(offered) {
		p.Offered = r.text()
		p.Number = r.skip(`,"number":true`)
	}
	r.must(`},"$state":`)
	state, closed := bytes.CutSuffix(r.rest, []byte("}"))
	return state, r.ok && closed
}

func (r *reader) filling(f *filling) {
	f.Form = r.text()
	r.ok = r.ok && !f.IsZero()
	if r.skip(`,"field":`) {
		f.Field = r.text()
	}
	if r.skip(`,"tries":`) {
		f.Tries = r.number()
	}
	if r.skip(`,"given":[`) {
		f.Given = append(f.Given, r.text())
		for r.skip(",") {
			f.Given = append(f.Given, r.text())
		}
		r.must("]")
	}
}

// reader reads JSON whose form is known. What it meets otherwise makes it not ok.
type reader struct {
	rest []byte
	ok   bool
}

// skip goes past what is given, if that comes next.
func (r *reader) skip(given string) bool {
	if len(r.rest) < len(given) || string(r.rest[:len(given)]) != given {
		return false
	}
	r.rest = r.rest[len(given):]
	return true
}

func (r *reader) must(given string) { r.ok = r.skip(given) && r.ok }

// text reads a string in which nothing is escaped but the ends of lines, and tabs.
func (r *reader) text() string {
	r.must(`"`)
	i, escaped, wide := 0, false, false
	for ; i < len(r.rest) && r.rest[i] != '"'; i++ {
		switch c := r.rest[i]; {
		case small(c) != 0: // nearly all are
		case c == '\\' && i+1 < len(r.rest) && (r.rest[i+1] == 'n' || r.rest[i+1] == 't'):
			escaped = true
		case c < ' ', c == '\\', c == 0x7f:
			r.ok = false
			return ""
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
	s := r.rest[:i]
	r.ok = r.ok && (!wide || utf8.Valid(s))
	r.rest = r.rest[i:]
	r.must(`"`)
	if !escaped {
		return string(s)
	}
	return unescaped(s)
}

// unescaped has the ends of lines and the tabs of s as what they are.
func unescaped(s []byte) string {
	var b strings.Builder
	b.Grow(len(s))
	for {
		before, after, escaped := bytes.Cut(s, []byte(`\`))
		b.Write(before)
		if !escaped {
			return b.String()
		}
		if after[0] == 'n' {
			b.WriteByte('\n')
		} else {
			b.WriteByte('\t')
		}
		s = after[1:]
	}
}

func (r *reader) number() int {
	i := 0
	for i < len(r.rest) && r.rest[i] >= '0' && r.rest[i] <= '9' {
		i++
	}
	n, err := strconv.Atoi(string(r.rest[:i]))
	r.ok = r.ok && err == nil && (r.rest[0] != '0' || i == 1)
	r.rest = r.rest[i:]
	return n
}
