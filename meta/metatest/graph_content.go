package metatest

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Meta's limits on what a message may hold (button and generic template,
// interactive messages, image messages), as the pages have them.
const (
	buttonTextMax  = 640 // characters of a button template's text
	elementsMax    = 10
	elementTextMax = 80   // characters of a title, a subtitle
	captionMax     = 1024 // characters
	frameMax       = 60   // characters of a header, a footer
	listButtonMax  = 20
	sectionMax     = 24
	rowTitleMax    = 24
	rowIDMax       = 200
	rowAboutMax    = 72
	ctaMax         = 20
	flowCTAMax     = 30
)

func longer(s string, most int) bool { return utf8.RuneCountInString(s) > most }

type recipient struct {
	ID        string `json:"id"`
	UserRef   string `json:"user_ref"`
	CommentID string `json:"comment_id"`
	PostID    string `json:"post_id"`
}

// key names whom a send is for. Nobody here comments: a private reply meets no
// user.
func (r *recipient) key() string {
	for _, key := range []string{r.ID, r.UserRef, r.CommentID, r.PostID} {
		if key != "" {
			return key
		}
	}
	return ""
}

type quoted struct {
	MID string `json:"mid"`
}

type reactedTo struct {
	MessageID string `json:"message_id"`
	Reaction  string `json:"reaction"`
}

func (r *reactedTo) check(action string) *graphError {
	if strings.HasSuffix(action, "react") && (r.MessageID == "" || action == "react" && r.Reaction == "") {
		return badParameter("Param payload must have message_id, and reaction to react")
	}
	return nil
}

type attachment struct {
	Type    string `json:"type"`
	Payload struct {
		URL          string          `json:"url"`
		AttachmentID string          `json:"attachment_id"`
		TemplateType string          `json:"template_type"`
		Text         string          `json:"text"`
		Buttons      []messageButton `json:"buttons"`
		Elements     []struct {
			Title    string          `json:"title"`
			Subtitle string          `json:"subtitle"`
			ImageURL string          `json:"image_url"`
			Default  *messageButton  `json:"default_action"`
			Buttons  []messageButton `json:"buttons"`
		} `json:"elements"`
	} `json:"payload"`
}

type messageButton struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	URL     string `json:"url"`
	Payload string `json:"payload"`
}

// checkAttached checks what a message has in place of a text.
func checkAttached(m *messagingBody) *graphError {
	if m.ReplyTo != nil && m.ReplyTo.MID == "" {
		return badParameter("Param reply_to must have mid")
	}
	if t := m.Message.Template; t != nil {
		if m.Type != "UTILITY" || !t.complete() {
			return badParameter("Param message[template] needs messaging_type UTILITY, a name and a language")
		}
	}
	if a := m.Message.Attachment; a != nil {
		return a.check()
	}
	return nil
}

func (a *attachment) check() *graphError {
	p := &a.Payload
	switch {
	case oneOf(a.Type, "image", "audio", "video", "file"):
		if (p.URL == "") == (p.AttachmentID == "") {
			return badParameter("Param message[attachment][payload] must have either url or attachment_id")
		}
		return nil
	case a.Type != "template":
		return badParameter("Param message[attachment][type] is invalid")
	case p.TemplateType == "button":
		if p.Text == "" || longer(p.Text, buttonTextMax) || len(p.Buttons) == 0 {
			return badParameter("Button template must have a text of 1 to 640 characters and buttons")
		}
		return checkMessageButtons(p.Buttons)
	case p.TemplateType == "generic":
		return a.checkElements()
	}
	return badParameter("Param message[attachment][payload][template_type] is invalid")
}

func (a *attachment) checkElements() *graphError {
	if n := len(a.Payload.Elements); n == 0 || n > elementsMax {
		return badParameter("Generic template must have 1 to 10 elements")
	}
	for _, e := range a.Payload.Elements {
		switch {
		case e.Title == "" || longer(e.Title, elementTextMax) || longer(e.Subtitle, elementTextMax):
			return badParameter("Element must have a title of 1 to 80 characters, and a subtitle of at most 80")
		case e.Subtitle == "" && e.ImageURL == "" && len(e.Buttons) == 0:
			return badParameter("Element must have something beside its title")
		case e.Default != nil && (e.Default.Type != "web_url" || e.Default.URL == "" || e.Default.Title != ""):
			return badParameter("Param default_action must be a web_url without a title")
		}
		if err := checkMessageButtons(e.Buttons); err != nil {
			return err
		}
	}
	return nil
}

func checkMessageButtons(buttons []messageButton) *graphError {
	if len(buttons) > buttonsMax {
		return badParameter("Too many buttons: at most 3")
	}
	for _, b := range buttons {
		switch {
		case b.Title == "" || longer(b.Title, titleMax):
			return badParameter("Button title must have 1 to 20 characters")
		case b.Type == "web_url" && b.URL != "" && b.Payload == "":
		case b.Type == "postback" && b.URL == "" && b.Payload != "" && !longer(b.Payload, payloadMax):
		default:
			return badParameter("Button must be a web_url with a url, or a postback with a payload of at most 1000 characters")
		}
	}
	return nil
}

type sentTemplate struct {
	Name     string `json:"name"`
	Language struct {
		Code string `json:"code"`
	} `json:"language"`
	Components []struct {
		Type string `json:"type"`
	} `json:"components"`
}

func (t *sentTemplate) complete() bool {
	for _, c := range t.Components {
		if c.Type == "" {
			return false
		}
	}
	return t.Name != "" && t.Language.Code != ""
}

type whatsappContext struct {
	MessageID string `json:"message_id"`
}

type typing struct {
	Type string `json:"type"`
}

type sentMedia struct {
	ID       string `json:"id"`
	Link     string `json:"link"`
	Caption  string `json:"caption"`
	Filename string `json:"filename"`
}

type sentLocation struct {
	Latitude  *float64 `json:"latitude"`
	Longitude *float64 `json:"longitude"`
}

type sentReaction struct {
	MessageID string  `json:"message_id"`
	Emoji     *string `json:"emoji"`
}

// checkOther checks what is neither text nor interactive.
func (m *whatsappBody) checkOther() *graphError {
	media := map[string]*sentMedia{
		"image": m.Image, "video": m.Video, "audio": m.Audio, "document": m.Document, "sticker": m.Sticker,
	}
	if content, ok := media[m.Type]; ok {
		if content == nil {
			return missing(onWhatsApp, m.Type)
		}
		return content.check(m.Type)
	}
	var there bool
	switch m.Type {
	case "template":
		there = m.Template != nil && m.Template.complete()
	case "location":
		there = m.Location != nil && m.Location.Latitude != nil && m.Location.Longitude != nil
	case "reaction":
		there = m.Reaction != nil && m.Reaction.MessageID != "" && m.Reaction.Emoji != nil
	case "contacts":
		there = len(m.Contacts) > 0
	default:
		return badParameter("Param type is not a supported message type")
	}
	if !there {
		return missing(onWhatsApp, m.Type)
	}
	return nil
}

func (m *sentMedia) check(kind string) *graphError {
	switch {
	case (m.ID == "") == (m.Link == ""):
		return missing(onWhatsApp, kind+".id or link")
	case longer(m.Caption, captionMax):
		return badParameter("Param caption must be at most 1024 characters long.")
	case m.Caption != "" && oneOf(kind, "audio", "sticker"), m.Filename != "" && kind != "document":
		return badParameter("Unexpected key in param " + kind)
	}
	return nil
}

func (i *interactiveBody) checkFrame() *graphError {
	for _, line := range []*whatsappBare{i.Header, i.Footer} {
		if line != nil && (line.Text == "" || longer(line.Text, frameMax)) {
			return badValue("Header and footer must have 1 to 60 characters")
		}
	}
	return nil
}

type tappedParameter struct {
	DisplayText string `json:"display_text"`
	URL         string `json:"url"`
	Version     string `json:"flow_message_version"`
	ID          string `json:"flow_id"`
	CTA         string `json:"flow_cta"`
	Action      string `json:"flow_action"`
	Payload     *struct {
		Screen string          `json:"screen"`
		Data   json.RawMessage `json:"data"`
	} `json:"flow_action_payload"`
}

// checkTapped checks what has one button, which isn't a reply.
func (i *interactiveBody) checkTapped() *graphError {
	p := &i.Action.Parameters
	ok := false
	switch i.Type {
	case "cta_url":
		ok = i.Action.Name == "cta_url" && p.URL != "" && p.DisplayText != "" && !longer(p.DisplayText, ctaMax)
	case "location_request_message":
		ok = i.Action.Name == "send_location"
	case "flow":
		ok = i.Action.Name == "flow" && p.Version == "3" && p.ID != "" && p.CTA != "" && !longer(p.CTA, flowCTAMax) &&
			(p.Action == "data_exchange" && p.Payload == nil || p.Action == "navigate" && p.Payload != nil && p.Payload.Screen != "")
	}
	if !ok {
		return badValue("Interactive action is not valid for type " + i.Type)
	}
	return nil
}

type listSection struct {
	Title string `json:"title"`
	Rows  []struct {
		idTitle
		Description string `json:"description"`
	} `json:"rows"`
}

func (i *interactiveBody) checkList() *graphError {
	rows := 0
	for _, s := range i.Action.Sections {
		rows += len(s.Rows)
		if longer(s.Title, sectionMax) || s.Title == "" && len(i.Action.Sections) > 1 {
			return badValue("Section title must have 1 to 24 characters if there are several sections")
		}
		for _, r := range s.Rows {
			if r.ID == "" || longer(r.ID, rowIDMax) || r.Title == "" || longer(r.Title, rowTitleMax) || longer(r.Description, rowAboutMax) {
				return badValue("Row must have an id of 1 to 200, a title of 1 to 24 and a description of at most 72 characters")
			}
		}
	}
	if rows == 0 || rows > listRowsMax || i.Action.Button == "" || longer(i.Action.Button, listButtonMax) {
		return badValue("A list needs a button of 1 to 20 characters and 1 to 10 rows")
	}
	return nil
}
