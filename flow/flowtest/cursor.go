package flowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// cursor reads a line from left to right.
type cursor struct{ rest string }

func (c *cursor) skip() { c.rest = strings.TrimLeft(c.rest, " \t") }

// word takes the next word: up to a space, or what is in quotes.
func (c *cursor) word() (string, error) {
	c.skip()
	if strings.HasPrefix(c.rest, `"`) {
		return c.quoted()
	}
	end := strings.IndexAny(c.rest, " \t")
	if end < 0 {
		end = len(c.rest)
	}
	out := c.rest[:end]
	c.rest = c.rest[end:]
	c.skip()
	return out, nil
}

// bare takes the next word, which has no quotes around it.
func (c *cursor) bare() string {
	c.skip()
	out, rest, _ := strings.Cut(strings.ReplaceAll(c.rest, "\t", " "), " ")
	c.rest = rest
	c.skip()
	return out
}

// after takes the words if they come next.
func (c *cursor) after(words string) bool {
	rest, ok := strings.CutPrefix(c.rest, words)
	if !ok || rest != "" && !strings.HasPrefix(rest, " ") {
		return false
	}
	c.rest = rest
	c.skip()
	return true
}

func (c *cursor) quoted() (string, error) {
	prefix, err := strconv.QuotedPrefix(c.rest)
	if err != nil {
		return "", errors.New(`no end of what begins with "; inside of quotes write \" for "`)
	}
	out, err := strconv.Unquote(prefix)
	if err != nil {
		return "", fmt.Errorf("%s: %w", prefix, err)
	}
	c.rest = c.rest[len(prefix):]
	c.skip()
	return out, nil
}

// all takes the rest: a text as it stands, or in quotes.
func (c *cursor) all() (string, error) {
	c.skip()
	if !strings.HasPrefix(c.rest, `"`) {
		out := c.rest
		c.rest = ""
		return out, nil
	}
	out, err := c.quoted()
	if err != nil {
		return "", err
	}
	return out, c.end()
}

// json takes a JSON value.
func (c *cursor) json() (json.RawMessage, error) {
	d := json.NewDecoder(strings.NewReader(c.rest))
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("want JSON: %w", err)
	}
	c.rest = c.rest[d.InputOffset():]
	c.skip()
	return compact(raw), nil
}

func (c *cursor) end() error {
	if c.rest != "" {
		return fmt.Errorf("%q is too much", c.rest)
	}
	return nil
}

// compact is JSON without spaces.
func compact(raw []byte) []byte {
	b, err := json.Marshal(json.RawMessage(raw))
	if err != nil {
		return raw
	}
	return b
}

// plain reports whether s, on a line, is read back as it is: nothing that can't be
// seen, and no quotes at its beginning.
func plain(s string) bool {
	return s != "" && s[0] != '"' && strings.TrimSpace(s) == s && visible(s)
}

func visible(s string) bool {
	const joiner, nonJoiner = '\u200d', '\u200c' // inside of emojis, and of words in Persian
	for _, r := range s {
		if !unicode.IsPrint(r) && r != joiner && r != nonJoiner {
			return false
		}
	}
	return utf8.ValidString(s)
}

// shown is s on one line, in quotes if it must be.
func shown(s string) string {
	if plain(s) {
		return s
	}
	return strconv.Quote(s)
}

// shownWord is s as one word.
func shownWord(s string) string {
	if plain(s) && !strings.ContainsAny(s, " \t") {
		return s
	}
	return strconv.Quote(s)
}

// shownText is a text on as many lines as it has, or in quotes on one. The lines
// after the first begin with a bar.
func shownText(s, reserved string) (first string, rest []string) {
	lines := strings.Split(s, "\n")
	ok := plain(lines[0]) && lines[len(lines)-1] != "" && !strings.ContainsAny(s, reserved)
	for _, line := range lines[1:] {
		ok = ok && visible(line) && strings.TrimRight(line, " \t") == line
	}
	if !ok {
		return strconv.Quote(s), nil
	}
	for _, line := range lines[1:] {
		rest = append(rest, strings.TrimRight("| "+line, " "))
	}
	return lines[0], rest
}

// MaxWait is the longest time that a transcript may let pass at once.
const MaxWait = 10 * 366 * 24 * time.Hour

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// units are the words for a time, the longest first.
var units = []struct {
	d     time.Duration
	short string
	words []string
}{
	{week, "w", []string{"week", "weeks"}},
	{day, "d", []string{"day", "days"}},
	{time.Hour, "h", []string{"hour", "hours"}},
	{time.Minute, "m", []string{"min", "minute", "minutes"}},
	{time.Second, "s", []string{"sec", "second", "seconds"}},
	{time.Millisecond, "ms", nil},
	{time.Microsecond, "us", nil},
	{time.Nanosecond, "ns", nil},
}

// parseDuration reads "3 weeks", "2d 4h", "1h30m", "250ms".
func parseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf(`time %q: want something like "3 weeks", "2d4h", "30m", "250ms"; at most %s (MaxWait)`, s, shownDuration(MaxWait))
	var total time.Duration
	rest := strings.TrimSpace(s)
	if rest == "" || len(rest) > 64 {
		return 0, bad
	}
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		rest = strings.TrimLeft(rest[digits:], " ")
		letters := len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsLetter))
		unit := unitOf(rest[:letters])
		rest = strings.TrimLeft(rest[letters:], " ")
		if err != nil || unit == 0 || n > int(MaxWait/unit) {
			return 0, bad
		}
		if total += time.Duration(n) * unit; total > MaxWait {
			return 0, bad
		}
	}
	return total, nil
}

func unitOf(word string) time.Duration {
	for _, u := range units {
		if word == u.short || slices.Contains(u.words, word) {
			return u.d
		}
	}
	return 0
}

// shownDuration is what parseDuration reads.
func shownDuration(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range units {
		if n := d / u.d; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.short)
			d %= u.d
		}
	}
	return b.String()
}

// parseTime reads "2026-03-02 09:00", with seconds if you like, in UTC, or RFC 3339.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", time.RFC3339, "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1970 && t.Year() <= 2200 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf(`time %q: want something like "2026-03-02 09:00" (UTC), of the years 1970 to 2200`, s)
}
