package flow

import "strings"

// Plurals are the plural categories of a language in the order in which a text gives
// its forms, after Unicode's CLDR (language plural rules, cardinals; whole numbers only, without
// the categories that only fractions or millions have).
func Plurals(language string) []string {
	switch base(language) {
	case "ja", "zh", "ko", "vi", "th", "id", "ms", "my", "lo", "km", "yue":
		return []string{"other"}
	case "ru", "uk", "be", "pl":
		return []string{"one", "few", "many"}
	case "sr", "hr", "bs", "cs", "sk", "lt", "ro", "mo":
		return []string{"one", "few", "other"}
	case "sl":
		return []string{"one", "two", "few", "other"}
	case "ar":
		return []string{"zero", "one", "two", "few", "many", "other"}
	case "he", "iw":
		return []string{"one", "two", "other"}
	case "lv":
		return []string{"zero", "one", "other"}
	}
	return []string{"one", "other"}
}

func base(language string) string {
	language, _, _ = strings.Cut(strings.ToLower(language), "-")
	language, _, _ = strings.Cut(language, "_")
	return language
}

// plural is the index of the form for n among Plurals.
func plural(language string, n int) int {
	if n < 0 {
		n = -n
	}
	tens := n % 100
	switch base(language) {
	case "ja", "zh", "ko", "vi", "th", "id", "ms", "my", "lo", "km", "yue":
		return 0
	case "fr", "pt", "hi", "fa", "bn", "am", "gu", "kn", "zu", "hy":
		return first(n <= 1)
	case "ru", "uk", "be", "sr", "hr", "bs":
		return first(n%10 == 1 && tens != 11, n%10 >= 2 && n%10 <= 4 && (tens < 12 || tens > 14))
	case "pl":
		return first(n == 1, n%10 >= 2 && n%10 <= 4 && (tens < 12 || tens > 14))
	case "cs", "sk":
		return first(n == 1, n >= 2 && n <= 4)
	case "ro", "mo":
		return first(n == 1, n == 0 || tens >= 1 && tens <= 19)
	case "lt":
		return first(n%10 == 1 && (tens < 11 || tens > 19), n%10 >= 2 && (tens < 11 || tens > 19))
	case "sl":
		return first(tens == 1, tens == 2, tens == 3 || tens == 4)
	case "he", "iw":
		return first(n == 1, n == 2)
	case "lv":
		return first(n%10 == 0 || tens >= 11 && tens <= 19, n%10 == 1)
	case "ar":
		return first(n == 0, n == 1, n == 2, tens >= 3 && tens <= 10, tens >= 11)
	case "is", "mk":
		return first(n%10 == 1 && tens != 11)
	}
	return first(n == 1)
}

// first is the index of the first case that holds, or of the one after them.
func first(cases ...bool) int {
	for i, holds := range cases {
		if holds {
			return i
		}
	}
	return len(cases)
}
