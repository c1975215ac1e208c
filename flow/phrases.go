package flow

import "slices"

// Phrases are the words that forms understand, and what a flow says by itself. What is
// left out is English. Give the words of all the languages that are spoken: they are
// compared as Text does. What is said may be a key of the catalogue.
type Phrases struct {
	Back   []string // "back": to the question before
	Cancel []string // "cancel": out of the form
	Change []string // "change", before the label of a field
	Skip   []string // "skip": an optional field
	Yes    []string
	No     []string

	Again     string // an answer was not understood
	Cancelled string // the contact left a form
	GaveUp    string // a form ended after too many attempts
	Confirm   string // the title of the option that says yes, also to a form
	Deny      string // the title of the option that says no
	ChangeOf  string // the title of one that changes a field: "Change {field}"
	Choose    string // on the button that opens a list
	Number    string // below numbered options; "-" for nothing
}

func (p Phrases) withDefaults() Phrases {
	words := func(given []string, english ...string) []string {
		if len(given) > 0 {
			return given
		}
		return english
	}
	says := func(given, english string) string {
		switch given {
		case "":
			return english
		case "-":
			return ""
		}
		return given
	}
	return Phrases{
		Back: words(p.Back, "back"), Cancel: words(p.Cancel, "cancel"), Change: words(p.Change, "change"),
		Skip: words(p.Skip, "skip"), Yes: words(p.Yes, "yes", "ok", "okay"), No: words(p.No, "no"),
		Again:     says(p.Again, "Sorry, I did not understand that."),
		Cancelled: says(p.Cancelled, "All right, never mind."),
		GaveUp:    says(p.GaveUp, "Let us leave it at that for now."),
		Confirm:   says(p.Confirm, "Yes"), Deny: says(p.Deny, "No"), ChangeOf: says(p.ChangeOf, "Change {field}"),
		Choose: says(p.Choose, "Choose"), Number: says(p.Number, "Reply with the number of your choice."),
	}
}

// words are Phrases that are heard, folded.
type words struct{ back, cancel, change, skip, yes, no []string }

func (p *Phrases) fold() words {
	return words{
		back: foldAll("Phrases.Back", p.Back), cancel: foldAll("Phrases.Cancel", p.Cancel),
		change: foldAll("Phrases.Change", p.Change), skip: foldAll("Phrases.Skip", p.Skip),
		yes: foldAll("Phrases.Yes", p.Yes), no: foldAll("Phrases.No", p.No),
	}
}

// says reports whether a folded text begins with one of the words.
func says(text string, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool {
		return text == word || len(text) > len(word) && text[:len(word)+1] == word+" "
	})
}
