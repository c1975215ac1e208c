package flow

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fold is a text as texts are compared: in small letters, without diacritics and
// punctuation, its words parted by one space. Of a text that is nothing but punctuation
// it is that.
func Fold(text string) string {
	var room [128]byte // most texts are short
	return string(appendFold(room[:0], text))
}

// appendFold appends to b what Fold makes of a text.
func appendFold(b []byte, text string) []byte {
	start, gap := len(b), false
	for i := 0; i < len(text); {
		// Letters and digits of ASCII, which most texts are made of, need no more.
		c, size := small(text[i]), 1
		var r rune
		if c == 0 {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		i += size
		switch {
		case c != 0:
		case isBorder(r):
			gap = len(b) > start
			continue
		case r > unicode.MaxASCII && isMark(r):
			continue
		}
		if gap {
			b, gap = append(b, ' '), false
		}
		switch {
		case c != 0:
			b = append(b, c)
		case r > unicode.MaxASCII:
			b = append(b, plain(unicode.ToLower(r))...)
		default:
			b = append(b, byte(r))
		}
	}
	if len(b) == start {
		return append(b, strings.TrimSpace(text)...)
	}
	return b
}

// unlike reports whether two texts, folded or not, surely fold to different ones: they
// begin with different letters or digits of ASCII.
func unlike(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	x, y := small(a[0]), small(b[0])
	return x != y && x != 0 && y != 0
}

// small is the small letter of an ASCII letter, a digit as it is, and 0 for all else.
func small(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	}
	return 0
}

// isBorder reports whether r parts words.
func isBorder(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.IsControl(r)
}

// isMark reports whether r only changes the character before it: a diacritic of Latin
// letters, the form of an emoji.
func isMark(r rune) bool {
	return r >= 0x300 && r <= 0x36f || r >= 0xfe00 && r <= 0xfe0f || r == 0x200d || r == 0x200b || r == 0xfeff
}

// plain is a small letter without its diacritics: the letters of Europe's Latin
// alphabets and of Vietnamese.
func plain(r rune) string {
	switch {
	case strings.ContainsRune("àáâãäåāăąǎảạầấẩẫậằắẳẵặ", r):
		return "a"
	case strings.ContainsRune("èéêëēĕėęěẻẽẹềếểễệ", r):
		return "e"
	case strings.ContainsRune("ìíîïĩīĭįıǐỉị", r):
		return "i"
	case strings.ContainsRune("òóôõöøōŏőǒỏọồốổỗộơờớởỡợ", r):
		return "o"
	case strings.ContainsRune("ùúûüũūŭůűųǔủụưừứửữự", r):
		return "u"
	case strings.ContainsRune("ýÿŷỳỷỹỵ", r):
		return "y"
	case strings.ContainsRune("çćĉċč", r):
		return "c"
	case strings.ContainsRune("ñńņňŉ", r):
		return "n"
	case strings.ContainsRune("śŝşšș", r):
		return "s"
	case strings.ContainsRune("źżž", r):
		return "z"
	case strings.ContainsRune("ďđð", r):
		return "d"
	}
	return plainRare(r)
}

func plainRare(r rune) string {
	switch {
	case strings.ContainsRune("ĝğġģ", r):
		return "g"
	case strings.ContainsRune("ĺļľŀł", r):
		return "l"
	case strings.ContainsRune("ŕŗř", r):
		return "r"
	case strings.ContainsRune("ţťŧț", r):
		return "t"
	case strings.ContainsRune("ĥħ", r):
		return "h"
	}
	switch r {
	case 'ß':
		return "ss"
	case 'æ':
		return "ae"
	case 'œ':
		return "oe"
	case 'þ':
		return "th"
	case 'ŵ':
		return "w"
	case 'ĵ':
		return "j"
	case 'ķ':
		return "k"
	}
	return string(r)
}
