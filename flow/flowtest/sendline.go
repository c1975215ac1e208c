package flowtest

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/parleychat/parley"
)

// SendLines are the lines of a transcript that show a message of the bot: one, and
// those that continue it. Two messages that differ are shown differently, but for a
// payload that is the title, which is the same as none.
func SendLines(s *parley.Send) []string {
	head, rest := shownSend(s)
	lines := []string{"bot" + head}
	for _, line := range rest {
		lines = append(lines, more+line)
	}
	return lines
}

// shownSend is what is behind the word bot, and the lines that continue it.
func shownSend(s *parley.Send) (head string, rest []string) {
	head, rest = shownContent(s)
	var replies []string
	for _, q := range s.QuickReplies {
		replies = append(replies, shownReply(q))
	}
	head, rest = beside(head, rest, replies)
	return head, append(rest, shownOptions(s)...)
}

// beside puts what can be chosen behind the words, if they are on one line.
func beside(head string, rest, choices []string) (first string, others []string) {
	switch {
	case len(choices) == 0:
		return head, rest
	case len(rest) == 0:
		return head + " " + strings.Join(choices, " "), nil
	}
	return head, append(rest, strings.Join(choices, " "))
}

// shownReply is a quick reply, with its payload unless that is the title.
func shownReply(q parley.QuickReply) string {
	return choice("[", q.Title, payloadPart(q.Title, q.Payload), "]")
}

// payloadPart is nothing if the payload is the title, as it is if there is none.
func payloadPart(title, payload string) string {
	if payload == "" || payload == title {
		return ""
	}
	return "=" + choicePart(payload)
}

func shownButton(b parley.Button) string {
	if b.URL != "" {
		return choice("<", b.Title, " "+strconv.Quote(b.URL), ">")
	}
	return choice("<", b.Title, payloadPart(b.Title, b.Payload), ">")
}

func shownButtons(buttons []parley.Button) []string {
	var out []string
	for _, b := range buttons {
		out = append(out, shownButton(b))
	}
	return out
}

// shownContent is the content: words, or what is sent in their place.
func shownContent(s *parley.Send) (head string, rest []string) {
	switch {
	case s.Media != nil:
		return shownMedia(s.Media)
	case len(s.Cards) > 0:
		return " sends cards", shownCards(s.Cards)
	case s.Location != nil:
		return " sends location " + shownPlace(s.Location), nil
	case s.Template != nil:
		return shownTemplate(s.Template)
	case s.Reaction != nil:
		return shownReaction(s.Reaction), nil
	case s.Signal != nil:
		return shownSignal(s.Signal), nil
	}
	head, rest = shownText(s.Text, "[<")
	head, rest = beside(": "+head, rest, shownButtons(s.Buttons))
	if s.List != nil {
		rest = append(rest, shownList(s.List)...)
	}
	if s.Flow != nil {
		rest = append(rest, "flow "+asJSON(s.Flow))
	}
	if s.AskLocation {
		rest = append(rest, "asks for the location")
	}
	return head, rest
}

func shownMedia(m *parley.Media) (head string, rest []string) {
	at := m.URL
	if m.URL == "" {
		at = "id:" + m.ID
	}
	head = " sends " + string(m.Kind) + " " + shownWord(at)
	if m.Caption != "" {
		first, further := shownText(m.Caption, "[<")
		head, rest = head+" "+first, further
	}
	if m.Name != "" {
		rest = append(rest, "name: "+shown(m.Name))
	}
	return head, rest
}

func shownCards(cards []parley.Card) []string {
	var lines []string
	for i := range cards {
		c := &cards[i]
		line := "* " + shown(c.Title)
		if strings.Contains(c.Title, " -- ") {
			line = "* " + strconv.Quote(c.Title)
		}
		if c.Subtitle != "" {
			line += " -- " + shown(c.Subtitle)
		}
		lines = append(lines, line)
		if c.ImageURL != "" {
			lines = append(lines, "image "+shown(c.ImageURL))
		}
		if c.URL != "" {
			lines = append(lines, "opens "+shown(c.URL))
		}
		if len(c.Buttons) > 0 {
			lines = append(lines, strings.Join(shownButtons(c.Buttons), " "))
		}
	}
	return lines
}

func shownList(l *parley.List) []string {
	lines := []string{"list " + strconv.Quote(l.Button)}
	for _, section := range l.Sections {
		lines = append(lines, strings.TrimRight("-- "+optional(section.Title), " "))
		for _, r := range section.Rows {
			row := choice("[", r.Title, payloadPart(r.Title, r.Payload), "]")
			lines = append(lines, strings.TrimRight(row+" "+optional(r.Description), " "))
		}
	}
	return lines
}

func shownTemplate(t *parley.Template) (head string, rest []string) {
	head = " sends template " + shownWord(t.Name) + " " + shownWord(t.Language) + " " + shownWord(string(t.Category))
	for i := range t.Components {
		rest = append(rest, shownComponent(&t.Components[i]))
	}
	return head, rest
}

// shownComponent is one line: the words that are filled in, or everything as JSON.
func shownComponent(c *parley.Component) string {
	parts := []string{"fills in", c.Type}
	simple := mediaWord(c.Type) && c.SubType == "" && c.Index == 0 && len(c.Raw) == 0 && len(c.Parameters) > 0
	for _, p := range c.Parameters {
		simple = simple && p.Text != "" && p == (parley.Parameter{Text: p.Text})
		parts = append(parts, strconv.Quote(p.Text))
	}
	if simple {
		return strings.Join(parts, " ")
	}
	return "component " + asJSON(c)
}

func shownReaction(r *parley.Reaction) string {
	what := " reacts " + shownWord(r.Emoji)
	if r.Removed {
		what = " unreacts"
	}
	if r.Name != "" {
		what += " named " + shownWord(r.Name)
	}
	return what + " to " + shownWord(r.MessageID)
}

func shownSignal(s *parley.Signal) string {
	words := map[parley.SignalKind]string{parley.MarkRead: " marks read", parley.Typing: " types", parley.TypingOff: " stops typing", parley.PassThread: " passes the thread to", parley.TakeThread: " takes the thread"}
	out, ok := words[s.Kind]
	if !ok {
		out = " signals " + shownWord(string(s.Kind))
	}
	return strings.TrimRight(out+" "+optional(s.App+s.MessageID), " ")
}

// shownOptions are the lines of what goes with a content.
func shownOptions(s *parley.Send) []string {
	var lines []string
	add := func(set bool, line string) {
		if set {
			lines = append(lines, line)
		}
	}
	add(s.Header != "", "header: "+shown(s.Header))
	add(s.Footer != "", "footer: "+shown(s.Footer))
	add(s.ReplyTo != "", "reply to "+shown(s.ReplyTo))
	if p := s.Private; p != nil {
		add(p.Comment != "", "in private, to comment "+shown(p.Comment))
		add(p.Post != "", "in private, to post "+shown(p.Post))
	}
	add(s.HumanAgent, "as a person")
	add(s.Bulk, "in bulk")
	add(s.Preview, "with a preview")
	return lines
}

// asJSON is v on one line.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return strconv.Quote(err.Error())
	}
	return string(b)
}
