package flowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/parleychat/parley"
)

// parseAction reads the lines of one step.
func parseAction(lines []string) (action, error) {
	first := word(lines[0])
	rest := cursor{strings.TrimPrefix(lines[0], first)}
	if rest.skip(); first == "person" {
		return parsePerson(rest, lines[1:])
	}
	if !reserved(first) {
		return parseUser(first, rest, lines[1:])
	}
	if len(lines) > 1 {
		return nil, fmt.Errorf("%q continues %q, which has one line", lines[1], first)
	}
	if slices.Contains(checks(), first) {
		return parseCheck(first, rest)
	}
	switch first {
	case "platform":
		return parsePlatform(rest)
	case "at":
		to, err := parseTime(rest.rest)
		return jump{to}, err
	case "wait":
		d, err := parseDuration(rest.rest)
		return wait{d}, err
	case "release":
		n, err := strconv.Atoi(rest.rest)
		if err != nil {
			err = fmt.Errorf("release %q: want a number", rest.rest)
		}
		return release{n}, err
	}
	return parseStub(rest) // "call"
}

// reserved reports whether nobody can be called so.
func reserved(name string) bool {
	switch name {
	case "platform", "at", "wait", "release", "call", "person", "bot", "dead":
		return true
	}
	return slices.Contains(checks(), name)
}

// checkName says what is wrong with the name of a user or a service.
func checkName(name string) error {
	for i, r := range name {
		if !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r) && !strings.ContainsRune("_-.", r)) {
			return fmt.Errorf("%q: want the name of a user, or one of platform, at, wait, release, call, person, %s", name, strings.Join(checks(), ", "))
		}
	}
	if name == "" || len(name) > parley.MaxNameBytes || reserved(name) {
		return fmt.Errorf("%q: want a name of 1 to %d bytes that is no word of transcripts", name, parley.MaxNameBytes)
	}
	return nil
}

func parsePlatform(c cursor) (action, error) {
	kind := parley.ChannelKind(c.rest)
	if !kind.Valid() || kind == parley.WhatsAppAccount {
		return nil, fmt.Errorf("platform %q: want messenger, instagram or whatsapp", c.rest)
	}
	return platform{kind}, nil
}

// parsePerson reads what a colleague says to a user, past the bot.
func parsePerson(c cursor, lines []string) (action, error) {
	user := ""
	if c.after("to") {
		if user = word(c.rest); checkName(user) != nil {
			return nil, checkName(user)
		}
		c.rest = strings.TrimPrefix(c.rest, user)
	}
	text, ok := strings.CutPrefix(c.rest, ":")
	if !ok {
		return nil, errors.New(`want "person: …" or "person to somebody: …"`)
	}
	m, err := parseText(text, lines)
	if err == nil && m.ReplyTo != nil {
		err = errors.New("a person's reply has no quote")
	}
	return happens{user, parley.Echo{Text: m.Text}}, err
}

// parseText reads what somebody says, on one or several lines.
func parseText(text string, lines []string) (parley.Message, error) {
	c := cursor{text}
	m := parley.Message{}
	said, err := c.all()
	if err != nil {
		return m, err
	}
	if said == "" && !strings.Contains(text, `"`) {
		return m, errors.New(`says nothing; write "" for an empty text`)
	}
	for _, line := range lines {
		if id, ok := strings.CutPrefix(line, "reply to "); ok && m.ReplyTo == nil {
			c = cursor{id}
			id, err = c.word()
			if err != nil || id == "" || c.rest != "" {
				return m, fmt.Errorf("%q: want the id of one message", line)
			}
			m.ReplyTo = &parley.ReplyTo{MessageID: id}
			continue
		}
		further, ok := strings.CutPrefix(line, "|")
		if !ok || m.ReplyTo != nil {
			return m, fmt.Errorf(`%q: want "| more text" or, as the last line, "reply to …"`, line)
		}
		said += "\n" + strings.TrimPrefix(further, " ")
	}
	m.Text = said
	return m, nil
}

// parseUser reads what a user does, or what a service answers.
func parseUser(name string, c cursor, lines []string) (action, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if text, ok := strings.CutPrefix(c.rest, ":"); ok {
		if choice := strings.TrimSpace(text); strings.HasPrefix(choice, "[") {
			return parseChoice(name, choice, lines)
		}
		m, err := parseText(text, lines)
		return happens{name, m}, err
	}
	verb := c.bare()
	if edit, ok := strings.CutSuffix(verb, ":"); ok && edit == "edits" { // "anna edits: …"
		verb, c.rest = edit, ": "+c.rest
	}
	if verb == "edits" {
		id, text, ok := strings.Cut(c.rest, ":")
		if !ok {
			return nil, errors.New(`want "edits: …" or "edits m1: …"`)
		}
		m, err := parseText(text, lines)
		if err == nil && m.ReplyTo != nil {
			err = errors.New("an edit has no quote")
		}
		return happens{name, parley.Edited{ID: strings.TrimSpace(id), Text: m.Text}}, err
	}
	if len(lines) > 0 {
		return nil, fmt.Errorf("%q continues %q, which has one line", lines[0], verb)
	}
	act, err := parseVerb(name, verb, &c)
	if err != nil {
		return nil, err
	}
	return act, c.end()
}

// parseChoice reads what is pressed: [Title], or [Title=payload].
func parseChoice(user, text string, lines []string) (action, error) {
	inner, ok := strings.CutSuffix(text[1:], "]")
	if !ok || len(lines) > 0 {
		return nil, fmt.Errorf("%q: want [Title] alone, or the text in quotes", text)
	}
	out := chooses{user: user}
	c := cursor{inner}
	var err error
	if strings.HasPrefix(inner, `"`) {
		out.title, err = c.quoted()
	} else {
		title, _, _ := strings.Cut(inner, "=")
		out.title, c.rest = title, inner[len(title):]
	}
	if payload, ok := strings.CutPrefix(c.rest, "="); ok && err == nil {
		c.rest = payload
		payload, err = c.all()
		out.payload, c.rest = &payload, ""
	}
	if err == nil && out.title == "" {
		err = errors.New("choice without a title")
	}
	if err == nil {
		err = c.end()
	}
	return out, err
}

// parseVerb reads what is neither said nor chosen.
func parseVerb(name, verb string, c *cursor) (action, error) {
	input := func(in parley.Input, err error) (action, error) { return happens{name, in}, err }
	switch verb {
	case "sends":
		return input(parseSends(c))
	case "presses":
		return input(parsePresses(c))
	case "reacts":
		emoji, err := c.word()
		if err == nil && emoji == "" {
			err = errors.New("reacts with nothing")
		}
		if err != nil {
			return nil, err
		}
		id, err := parseTo(c)
		return input(parley.Reaction{Emoji: emoji, MessageID: id}, err)
	case "unreacts":
		id, err := parseTo(c)
		return input(parley.Reaction{Removed: true, MessageID: id}, err)
	case "deletes":
		id, err := c.word()
		return input(parley.Deleted{ID: id}, err)
	case "arrives":
		ref, err := c.all()
		return input(parley.Referred{Referral: parley.Referral{Ref: ref}}, err)
	case "stops", "resumes":
		if c.bare() != "marketing" {
			return nil, fmt.Errorf(`want "%s marketing"`, verb)
		}
		return input(parley.Preference{Category: marketing, Value: strings.TrimSuffix(verb, "s")}, nil)
	case "event":
		return input(parseEvent(c))
	case "misses":
		return parseMisses(name, c)
	case "answers", "fails":
		with, err := parseAnswer(verb, c)
		return answers{name, with}, err
	}
	return nil, fmt.Errorf("%s %q: want a colon and what is said, or one of sends, presses, reacts, unreacts, edits, deletes, "+
		"arrives, stops, resumes, event, misses; of a service answers or fails", name, verb)
}

// marketing is WhatsApp's name of what a contact may want no more of.
const marketing = "marketing_messages"

// parseTo reads "to m1"; empty if it isn't there.
func parseTo(c *cursor) (string, error) {
	if c.rest == "" {
		return "", nil
	}
	if !c.after("to") {
		return "", fmt.Errorf(`%q: want "to", and the id of a message`, c.rest)
	}
	id, err := c.word()
	if err == nil && id == "" {
		err = errors.New(`want the id of a message after "to"`)
	}
	return id, err
}

// parseSends reads media and places.
func parseSends(c *cursor) (parley.Input, error) {
	kind := c.bare()
	if kind == "location" {
		return parsePlace(c)
	}
	if strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz_") != "" || kind == "" {
		return nil, fmt.Errorf(`sends %q: want "location", or a sort of media: image, audio, video, document, sticker …`, kind)
	}
	a := parley.Attachment{Type: kind}
	at, err := c.word()
	if err != nil {
		return nil, err
	}
	id, isID := strings.CutPrefix(at, "id:")
	switch {
	case isID && id != "":
		a.ID = id
	case isID:
		return nil, errors.New("id: without an id")
	case at == "":
		a.URL = "https://media.example/" + kind
	default:
		a.URL = at
	}
	a.Caption, err = c.all()
	return parley.Message{Attachments: []parley.Attachment{a}}, err
}

func parsePlace(c *cursor) (parley.Input, error) {
	lat, long, _ := strings.Cut(c.bare(), ",")
	l := parley.Location{}
	var errs [4]error
	l.Latitude, errs[0] = strconv.ParseFloat(lat, 64)
	l.Longitude, errs[1] = strconv.ParseFloat(long, 64)
	if errs[0] != nil || errs[1] != nil || !onEarth(&l) {
		return nil, errors.New(`want a place like "location 52.52,13.405": degrees`)
	}
	l.Name, errs[2] = c.word()
	l.Address, errs[3] = c.word()
	return parley.Message{Location: &l}, errors.Join(errs[2:]...)
}

// parsePresses reads a press on a button of which nobody knows whether it was offered:
// its payload, and its title if it matters.
func parsePresses(c *cursor) (parley.Input, error) {
	payload, err := c.word()
	if err != nil {
		return nil, err
	}
	title, err := c.all()
	return parley.Postback{Payload: payload, Title: title}, err
}

// parseEvent reads any input in its stored form.
func parseEvent(c *cursor) (parley.Input, error) {
	kind := c.bare()
	raw, err := c.json()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(struct {
		Kind  string          `json:"kind"`
		Input json.RawMessage `json:"input"`
	}{kind, raw})
	if err != nil {
		return nil, err //nolint:wrapcheck // can't be: both were read from JSON
	}
	in, err := parley.DecodeInput(data)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return in, nil
}

func parseMisses(user string, c *cursor) (action, error) {
	out := misses{user: user}
	first := c.bare()
	if strings.Trim(first, "0123456789") != "" {
		out.message, first = first, c.bare()
	}
	var err error
	if out.code, err = strconv.Atoi(first); err != nil {
		return nil, errors.New(`want Meta's code, like "misses 131026" or "misses b2 131026 Message undeliverable"`)
	}
	out.reason, err = c.all()
	return out, err
}

// parseAnswer reads what a service answers, or how it fails.
func parseAnswer(verb string, c *cursor) (Answer, error) {
	first := c.bare()
	rest, err := c.all()
	if err != nil {
		return Answer{}, err
	}
	if verb == "fails" {
		a := Answer{Failure: parley.CallFailure(first), Reason: rest}
		return a, a.check()
	}
	a := Answer{Body: []byte(rest)}
	if a.Status, err = strconv.Atoi(first); err != nil {
		return Answer{}, fmt.Errorf("answer %q: want a status, like 200, and a body", first)
	}
	return a, a.check()
}

// parseStub reads "call llm POST /v1 {…} -> 200 {…}", of which the method, the path
// and the body may be left out.
func parseStub(c cursor) (action, error) {
	out := stub{service: c.bare()}
	if err := checkName(out.service); err != nil {
		return nil, err
	}
	if m := word(c.rest); m != "" && slices.Contains(methods(), m) {
		out.method = c.bare()
	}
	if strings.HasPrefix(c.rest, "/") || strings.HasPrefix(c.rest, "?") {
		out.path = c.bare()
	}
	if !strings.HasPrefix(c.rest, "->") {
		var err error
		if out.body, err = c.json(); err != nil {
			return nil, fmt.Errorf(`want "call service METHOD /path {…} -> 200 {…}", the method, the path and the body if they matter: %w`, err)
		}
	}
	if !c.after("->") {
		return nil, errors.New(`want "->" and an answer`)
	}
	verb := "answers"
	if c.after("fails") {
		verb = "fails"
	}
	var err error
	out.with, err = parseAnswer(verb, &c)
	return out, err
}

func methods() []string {
	return []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
}

// checks are the words that show something of a conversation.
func checks() []string {
	return []string{"state", "timers", "tags", "attributes", "speaker", "behavior", "calls"}
}

func parseCheck(what string, c cursor) (action, error) {
	out := check{what: what}
	if c.after("of") {
		out.user = c.bare()
		if err := checkName(out.user); err != nil {
			return nil, err
		}
	}
	if what == "state" && c.rest != "" && c.rest != none {
		if _, err := c.json(); err != nil {
			return nil, err
		}
		return out, c.end()
	}
	return out, nil
}

// none is what is shown of a thing that isn't there.
const none = "none"

// want is the line, in the form in which it is shown.
func (c check) want(source string) []string {
	head := c.head()
	rest := cursor{strings.TrimPrefix(source, c.what)}
	if rest.skip(); c.user != "" {
		rest.after("of")
		rest.bare()
	}
	line := head
	if rest.rest != "" {
		value := rest.rest
		if c.what == "state" && value != none {
			value = string(compact([]byte(value)))
		}
		line += " " + value
	}
	return []string{line}
}

func (c check) head() string {
	if c.user == "" {
		return c.what
	}
	return c.what + " of " + c.user
}
