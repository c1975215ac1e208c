package flow

import (
	"strings"
	"unicode/utf8"

	"github.com/parleychat/parley"
)

// limit is how long a text may be: in characters, or in bytes if runes is 0.
type limit struct{ runes, bytes int }

// textLimit is how long a message may be on a platform; on one that isn't known, as
// long as on the narrowest.
func textLimit(kind parley.ChannelKind) limit {
	switch kind {
	case parley.Messenger:
		return limit{runes: messengerText}
	case parley.WhatsApp:
		return limit{runes: whatsAppText}
	default:
		return limit{bytes: instagramText}
	}
}

// split parts a text into ones within a limit: between paragraphs, lines, sentences or
// words, whichever comes late enough in it. Nothing but the space there is lost.
func split(text string, l limit) []string {
	var parts []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		n := l.fits(text)
		if n < len(text) {
			n = border(text[:n+1], n)
		}
		parts = append(parts, strings.TrimSpace(text[:n]))
		text = text[n:]
	}
	return parts
}

// fits is the number of bytes of a text that are within the limit, at the border of a
// character.
func (l limit) fits(text string) int {
	if len(text) <= max(l.runes, l.bytes) {
		return len(text)
	}
	if l.runes == 0 {
		n := min(l.bytes, len(text))
		for n < len(text) && n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		if n == 0 { // bytes that are no characters
			return min(l.bytes, len(text))
		}
		return n
	}
	runes := 0
	for i := range text {
		if runes == l.runes {
			return i
		}
		runes++
	}
	return len(text)
}

// border is where to part a text of which n bytes fit: at the best border in its second
// half, or at n. The byte at n is there to be seen: it may be a border itself.
func border(text string, n int) int {
	for _, mark := range [...]string{"\n\n", "\n", ". ", "! ", "? ", " "} {
		i := strings.LastIndex(text, mark)
		if i < 0 {
			continue
		}
		if mark[0] != '\n' && mark != " " {
			i++ // the mark stays with its sentence
		}
		if i > n/2 && i <= n {
			return i
		}
	}
	return n
}
