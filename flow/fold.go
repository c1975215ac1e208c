package flow

import (
	"strings"
	"unicode"
)

// Fold is a text as texts are compared: in small letters, without diacritics and
// punctuation, its words parted by one space. Of a text that is nothing but punctuation
// it is that.
func Fold(text string) string {
	return string(appendFold(make([]byte, 0, len(text)+8), text))
}

// appendFold appends to b what Fold makes of a text.
func appendFold(b []byte, text string) []byte {
	start, gap := len(b), false
	for _, r := range text {
		switch {
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
		case 'A' <= r && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r <= unicode.MaxASCII:
			b = append(b, byte(r))
		default:
			b = append(b, plain(unicode.ToLower(r))...)
		}
	}
	if len(b) == start {
		return append(b, strings.TrimSpace(text)...)
	}
	return b
}

// isBorder reports whether r parts words.
func isBorder(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9', 'A' <= r && r <= 'Z':
		return false
	}
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
