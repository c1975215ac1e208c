package parley_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filePatch is what a unified diff does to one file.
type filePatch struct {
	path  string // relative to the repository
	hunks []hunk
}

// hunk replaces lines of a file, beginning at line start (from 1), by others.
// Lines keep their "\n"; the last of a file may have none.
type hunk struct {
	start         int
	before, after []string
}

var hunkHead = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@`)

// parseDiff reads a unified diff of existing files, with paths a/… and b/….
// Lines before and between the files that git writes are skipped; anything else
// that doesn't belong to a diff is an error.
func parseDiff(text string) ([]filePatch, error) {
	var patches []filePatch
	lines := splitLines(text)
	for i := 0; i < len(lines); {
		line := strings.TrimSuffix(lines[i], "\n")
		switch {
		case line == "" || strings.HasPrefix(line, "diff --git ") || strings.HasPrefix(line, "index "):
			i++
		case strings.HasPrefix(line, "--- "):
			name, err := diffPath(lines[i:])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			patches = append(patches, filePatch{path: name})
			i += 2
		case strings.HasPrefix(line, "@@ ") && len(patches) > 0:
			h, n, err := parseHunk(lines[i:])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			last := &patches[len(patches)-1]
			last.hunks = append(last.hunks, h)
			i += n
		default:
			return nil, fmt.Errorf("line %d: %q is no part of a unified diff", i+1, line)
		}
	}
	return patches, nil
}

// diffPath reads the two lines that name a file, which must be the same on both
// sides: a planted bug changes files, it doesn't add, remove or rename them.
func diffPath(lines []string) (string, error) {
	if len(lines) < 2 {
		return "", fmt.Errorf("--- without +++")
	}
	cut := func(line, prefix string) string {
		rest, ok := strings.CutPrefix(line, prefix)
		name, _, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), "\t") // a time stamp may follow
		if !ok {
			return ""
		}
		return name
	}
	old, changed := cut(lines[0], "--- a/"), cut(lines[1], "+++ b/")
	if old == "" || old != changed {
		return "", fmt.Errorf("want --- a/FILE and +++ b/FILE of the same file, got %q and %q", lines[0], lines[1])
	}
	return old, nil
}

// parseHunk reads a hunk and returns it with the number of lines it took. Its
// counts must be true: a hunk that was cut short or edited by hand is an error.
func parseHunk(lines []string) (hunk, int, error) {
	head := hunkHead.FindStringSubmatch(lines[0])
	if head == nil {
		return hunk{}, 0, fmt.Errorf("%q is no hunk header", lines[0])
	}
	start, _ := strconv.Atoi(head[1]) // the expression matched digits
	before, after := count(head[2]), count(head[3])
	h, i := hunk{start: start}, 1
	for ; i < len(lines) && (len(h.before) < before || len(h.after) < after); i++ {
		mark, text := cutMark(lines[i])
		switch mark {
		case ' ':
			h.before, h.after = append(h.before, text), append(h.after, text)
		case '-':
			h.before = append(h.before, text)
		case '+':
			h.after = append(h.after, text)
		case '\\':
			h.trimLast(lines[i-1])
		default:
			return hunk{}, 0, fmt.Errorf("line %d of the hunk begins with %q, want a space, - or +", i, mark)
		}
	}
	if i < len(lines) && strings.HasPrefix(lines[i], `\`) {
		h.trimLast(lines[i-1])
		i++
	}
	if len(h.before) != before || len(h.after) != after {
		return hunk{}, 0, fmt.Errorf("hunk has %d and %d lines, its header says %d and %d", len(h.before), len(h.after), before, after)
	}
	return h, i, nil
}

// trimLast takes the line break off the line that the diff says has none.
func (h *hunk) trimLast(previous string) {
	mark, _ := cutMark(previous)
	if n := len(h.before); n > 0 && mark != '+' {
		h.before[n-1] = strings.TrimSuffix(h.before[n-1], "\n")
	}
	if n := len(h.after); n > 0 && mark != '-' {
		h.after[n-1] = strings.TrimSuffix(h.after[n-1], "\n")
	}
}

// cutMark splits a hunk's line into its mark and its text. Editors take the
// space off a blank context line; it is put back.
func cutMark(line string) (byte, string) {
	if line == "" || line == "\n" {
		return ' ', line
	}
	return line[0], line[1:]
}

// splitLines splits text into lines that keep their line breaks.
func splitLines(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func count(digits string) int {
	if digits == "" {
		return 1 // "@@ -3 +3 @@" stands for one line
	}
	n, _ := strconv.Atoi(digits) // the expression matched digits
	return n
}

// apply returns text with the patch applied. Every line that a hunk expects must
// be there. It may have moved as a whole, to the only place where it matches.
func (p filePatch) apply(text string) (string, error) {
	lines := splitLines(text)
	var out []string
	done := 0 // lines of the original that are dealt with
	for n, h := range p.hunks {
		at, err := h.find(lines, done)
		if err != nil {
			return "", fmt.Errorf("%s: hunk %d, line %d: %w", p.path, n+1, h.start, err)
		}
		out = append(append(out, lines[done:at]...), h.after...)
		done = at + len(h.before)
	}
	return strings.Join(append(out, lines[done:]...), ""), nil
}

// find returns the index of the line at which the hunk applies, at or after from.
func (h hunk) find(lines []string, from int) (int, error) {
	if len(h.before) == 0 { // nothing to match: it names the line that it follows
		if h.start < from || h.start > len(lines) {
			return 0, errors.New("overlaps the hunk before it, or passes the end of the file")
		}
		return h.start, nil
	}
	var places []int
	for at := from; at+len(h.before) <= len(lines); at++ {
		if slices.Equal(lines[at:at+len(h.before)], h.before) {
			places = append(places, at)
		}
	}
	switch {
	case slices.Contains(places, h.start-1):
		return h.start - 1, nil
	case len(places) == 1:
		return places[0], nil
	case len(places) > 1:
		return 0, fmt.Errorf("not there, but %d other places match", len(places))
	}
	return 0, h.mismatch(lines)
}

// mismatch says which line at the hunk's place isn't what the hunk expects.
func (h hunk) mismatch(lines []string) error {
	for i, want := range h.before {
		if at := h.start - 1 + i; at < 0 || at >= len(lines) {
			return fmt.Errorf("passes the end of the file, where it expects %q", want)
		} else if lines[at] != want {
			return fmt.Errorf("line %d is %q, the patch expects %q", at+1, lines[at], want)
		}
	}
	return errors.New("overlaps the hunk before it")
}

func TestDiff(t *testing.T) {
	t.Parallel()
	const original = "one\ntwo\n\nfour\nfive\n"
	head := "--- a/f.go\n+++ b/f.go\n"
	for _, c := range []struct{ name, diff, want, fails string }{
		{name: "replaces", diff: head + "@@ -1,3 +1,3 @@ func f()\n one\n-two\n+TWO\n \n", want: "one\nTWO\n\nfour\nfive\n"},
		{name: "blank context without its space", diff: head + "@@ -2,3 +2,2 @@\n two\n\n-four\n", want: "one\ntwo\n\nfive\n"},
		{name: "inserts after a line", diff: head + "@@ -1,0 +2 @@\n+new\n", want: "one\nnew\ntwo\n\nfour\nfive\n"},
		{name: "inserts at the top", diff: head + "@@ -0,0 +1 @@\n+new\n", want: "new\none\ntwo\n\nfour\nfive\n"},
		{name: "several hunks", diff: head + "@@ -1 +0,0 @@\n-one\n@@ -5 +4,2 @@\n five\n+six\n", want: "two\n\nfour\nfive\nsix\n"},
		{name: "git's own lines", diff: "diff --git a/f.go b/f.go\nindex 1..2 100644\n" + head + "@@ -5 +5 @@\n-five\n+FIVE\n", want: "one\ntwo\n\nfour\nFIVE\n"},
		{name: "takes the last line break", diff: head + "@@ -5 +5 @@\n-five\n+FIVE\n\\ No newline at end of file\n", want: "one\ntwo\n\nfour\nFIVE"},
		{name: "a line that begins with ---", diff: head + "@@ -5 +5 @@\n-five\n+++ five\n", want: "one\ntwo\n\nfour\n++ five\n"},
		{name: "moved as a whole", diff: head + "@@ -1,2 +1,2 @@\n four\n-five\n+FIVE\n", want: "one\ntwo\n\nfour\nFIVE\n"},
		{name: "changed context", diff: head + "@@ -1,2 +1,2 @@\n eins\n-two\n+TWO\n", fails: `f.go: hunk 1, line 1: line 1 is "one\n", the patch expects "eins\n"`},
		{name: "second hunk", diff: head + "@@ -1 +1 @@\n-one\n+ONE\n@@ -4 +4 @@\n-vier\n+four\n", fails: "hunk 2, line 4"},
		{name: "past the end", diff: head + "@@ -5,2 +5 @@\n five\n-six\n", fails: "hunk 1, line 5: passes the end"},
		{name: "inserts past the end", diff: head + "@@ -9,0 +9 @@\n+new\n", fails: "hunk 1, line 9: overlaps the hunk before it, or passes the end"},
		{name: "out of order", diff: head + "@@ -4 +4 @@\n-four\n+FOUR\n@@ -1 +1 @@\n-one\n+ONE\n", fails: "hunk 2, line 1: overlaps"},
		{name: "cut short", diff: head + "@@ -1,3 +1,3 @@\n one\n-two\n", fails: "hunk has 2 and 1 lines, its header says 3 and 3"},
		{name: "bad mark", diff: head + "@@ -1,2 +1,2 @@\n one\n*two\n", fails: "begins with '*'"},
		{name: "new file", diff: "--- /dev/null\n+++ b/f.go\n@@ -0,0 +1 @@\n+new\n", fails: "of the same file"},
		{name: "other paths", diff: "--- a/f.go\n+++ b/g.go\n", fails: "of the same file"},
		{name: "no diff", diff: "hello\n", fails: "line 1: \"hello\" is no part"},
		{name: "hunk of no file", diff: "@@ -1 +1 @@\n-one\n+ONE\n", fails: "is no part"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := applyText(c.diff, original)
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Fatalf("error %v, want %q", err, c.fails)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("patched (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDiffTwice: a hunk that isn't where it says is not put at one of several
// places that look the same.
func TestDiffTwice(t *testing.T) {
	t.Parallel()
	const original, head = "x\ny\nz\nx\ny\n", "--- a/f\n+++ b/f\n"
	if got, err := applyText(head+"@@ -4,2 +4,2 @@\n x\n-y\n+Y\n", original); err != nil || got != "x\ny\nz\nx\nY\n" {
		t.Errorf("at its place: %q, %v", got, err)
	}
	if got, err := applyText(head+"@@ -3,2 +3,2 @@\n x\n-y\n+Y\n", original); err == nil {
		t.Errorf("between two places: %q", got)
	}
}

func applyText(diff, original string) (string, error) {
	patches, err := parseDiff(diff)
	if err != nil {
		return "", err
	}
	return patches[0].apply(original)
}
