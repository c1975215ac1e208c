package flowtest

import (
	"fmt"
	"strings"
)

// MaxDiffs is how many lines of a transcript are shown that went another way.
const MaxDiffs = 20

// diff shows what is written and was not said, and what was said and isn't written.
func diff(written, said *Transcript) string {
	var b strings.Builder
	shown := 0
	for i := range written.Steps {
		was, is := written.Steps[i].Said, said.Steps[i].Said
		if strings.Join(was, "\n") == strings.Join(is, "\n") {
			continue
		}
		if shown++; shown > MaxDiffs {
			b.WriteString("… and more\n")
			break
		}
		fmt.Fprintf(&b, "%s:%d:", written.Name, written.Steps[i].Line)
		if source := written.Steps[i].source; len(source) > 0 {
			b.WriteString(" " + source[0])
		}
		b.WriteByte('\n')
		diffLines(&b, was, is)
	}
	return b.String()
}

// diffLines shows lines that differ between what is common at the beginning and at the
// end.
func diffLines(b *strings.Builder, was, is []string) {
	head := 0
	for head < len(was) && head < len(is) && was[head] == is[head] {
		head++
	}
	tail := 0
	for tail < len(was)-head && tail < len(is)-head && was[len(was)-1-tail] == is[len(is)-1-tail] {
		tail++
	}
	write := func(sign string, lines []string) {
		for _, line := range lines {
			b.WriteString("    " + sign + " " + line + "\n")
		}
	}
	write(" ", was[:head])
	write("-", was[head:len(was)-tail])
	write("+", is[head:len(is)-tail])
	write(" ", was[len(was)-tail:])
}
