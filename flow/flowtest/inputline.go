package flowtest

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/parleychat/parley"
)

// InputLines are the lines of a transcript by which that happens to a user's
// conversation: one, and those that continue it. It fails if the input has no stored
// form, or the user no name that a transcript can have.
func InputLines(user string, in parley.Input) ([]string, error) {
	if err := checkName(user); err != nil {
		return nil, err
	}
	lines, err := inputLines(user, in)
	for i := range lines {
		if i > 0 {
			lines[i] = more + lines[i]
		}
	}
	return lines, err
}

func inputLines(user string, in parley.Input) ([]string, error) {
	if lines, ok := readable(user, in); ok {
		return lines, nil
	}
	data, err := parley.EncodeInput(in)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it was
	}
	_, value, _ := strings.Cut(string(data), `"input":`)
	return []string{fmt.Sprintf("%s event %s %s", user, in.Kind(), strings.TrimSuffix(value, "}"))}, nil
}

// readable is the form for people, of inputs that have no more than it shows.
func readable(user string, in parley.Input) ([]string, bool) {
	switch in := in.(type) {
	case parley.Message:
		return readableMessage(user, in)
	case parley.Echo:
		lines := saidLines("person to "+user+":", in.Text)
		return lines, isOnly(in, parley.Echo{Text: in.Text})
	case parley.Edited:
		lines := saidLines(user+" edits "+in.ID+":", in.Text)
		return lines, isWord(in.ID) && isOnly(in, parley.Edited{ID: in.ID, Text: in.Text})
	default: // at most a line
	}
	line, only := shortLine(in)
	return []string{user + " " + line}, only != nil && isOnly(in, only)
}

// isOnly reports whether nothing of in is lost if it is told as what.
func isOnly(in, what parley.Input) bool { return reflect.DeepEqual(in, what) }

// isWord reports whether an id stands before a colon or at the end of a line as it is.
func isWord(id string) bool { return shownWord(id) == id && !strings.Contains(id, ":") }

// shortLine is the form of an input on one line, and what of it that tells.
func shortLine(in parley.Input) (line string, only parley.Input) {
	switch in := in.(type) {
	case parley.Postback:
		line = strings.TrimRight("presses "+shownWord(in.Payload)+" "+optional(in.Title), " ")
		return line, parley.Postback{Payload: in.Payload, Title: in.Title}
	case parley.Reaction:
		if in.MessageID == "" {
			return "", nil
		}
		if in.Removed {
			return "unreacts to " + shownWord(in.MessageID), parley.Reaction{Removed: true, MessageID: in.MessageID}
		}
		if in.Emoji == "" {
			return "", nil
		}
		return "reacts " + shownWord(in.Emoji) + " to " + shownWord(in.MessageID), parley.Reaction{Emoji: in.Emoji, MessageID: in.MessageID}
	case parley.Deleted:
		return "deletes " + shownWord(in.ID), parley.Deleted{ID: cmp.Or(in.ID, " ")}
	case parley.Referred:
		return "arrives " + shown(in.Referral.Ref), parley.Referred{Referral: parley.Referral{Ref: in.Referral.Ref}}
	case parley.Preference:
		if in.Value == "stop" || in.Value == "resume" {
			return in.Value + "s marketing", parley.Preference{Category: marketing, Value: in.Value}
		}
	default: // has no form but the stored one
	}
	return "", nil
}

func optional(s string) string {
	if s == "" {
		return ""
	}
	return shown(s)
}

// saidLines are what somebody says, behind their name and a colon.
func saidLines(head, text string) []string {
	first, rest := shownText(text, "")
	if strings.HasPrefix(first, "[") {
		first, rest = strconv.Quote(text), nil
	}
	return append([]string{head + " " + first}, rest...)
}

func readableMessage(user string, m parley.Message) ([]string, bool) {
	var only parley.Message
	var lines []string
	switch {
	case len(m.Attachments) == 1:
		a := m.Attachments[0]
		at := a.URL
		if a.ID != "" && a.URL == "" {
			at = "id:" + a.ID
		}
		only.Attachments = []parley.Attachment{{Type: a.Type, URL: a.URL, ID: a.ID, Caption: a.Caption}}
		if at == "" || a.ID != "" && a.URL != "" || strings.HasPrefix(a.URL, "id:") || !mediaWord(a.Type) {
			return nil, false
		}
		lines = []string{strings.TrimRight(user+" sends "+a.Type+" "+shownWord(at)+" "+optional(a.Caption), " ")}
	case m.Location != nil:
		if !onEarth(m.Location) {
			return nil, false
		}
		only.Location = m.Location
		lines = []string{user + " sends location " + shownPlace(m.Location)}
	case m.Payload != "" && m.Text != "":
		only.Text, only.Payload = m.Text, m.Payload
		lines = []string{user + ": " + choice("[", m.Text, "="+choicePart(m.Payload), "]")}
	default:
		only.Text = m.Text
		lines = saidLines(user+":", m.Text)
		if r := m.ReplyTo; r != nil && r.MessageID != "" {
			only.ReplyTo = &parley.ReplyTo{MessageID: r.MessageID}
			lines = append(lines, "reply to "+shownWord(r.MessageID))
		}
	}
	return lines, isOnly(m, only)
}

func mediaWord(s string) bool {
	return s != "" && s != "location" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// shownPlace is a place on one line.
func shownPlace(l *parley.Location) string {
	degrees := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	out := degrees(l.Latitude) + "," + degrees(l.Longitude)
	if l.Name != "" || l.Address != "" {
		out += " " + strconv.Quote(l.Name)
	}
	if l.Address != "" {
		out += " " + strconv.Quote(l.Address)
	}
	return out
}

// choice is something that can be chosen, in its brackets.
func choice(left, title, further, right string) string {
	return left + choicePart(title) + further + right
}

// choicePart is a title or a payload inside of brackets.
func choicePart(s string) string {
	if plain(s) && !strings.ContainsAny(s, "[]<>=") && !strings.Contains(s, "://") {
		return s
	}
	return strconv.Quote(s)
}

func onEarth(l *parley.Location) bool {
	return l.Latitude >= -90 && l.Latitude <= 90 && l.Longitude >= -180 && l.Longitude <= 180
}
