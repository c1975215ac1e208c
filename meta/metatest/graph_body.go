package metatest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Meta's limits on sends (Send API and WhatsApp send-messages pages).
const (
	messengerTextMax  = 2000 // characters
	instagramTextMax  = 1000 // bytes
	whatsappTextMax   = 4096 // characters
	interactiveMax    = 1024 // characters of an interactive body; 4096 with a list
	quickRepliesMax   = 13
	buttonsMax        = 3
	titleMax          = 20 // characters of a button or quick reply
	payloadMax        = 1000
	buttonIDMax       = 256
	metadataMax       = 1000
	opaqueMax         = 512
	listRowsMax       = 10
	interactiveButton = "button"
	interactiveList   = "list"
)

// send is a request to the Graph API that was read and, if err is nil, is valid.
type send struct {
	err     *graphError
	channel int32
	key     string // whom to: PSID, IGSID, wa_id or BSUID
	inTo    bool   // WhatsApp: the key stood in "to"
	notice  bool   // typing, mark seen, who has the thread: nothing is sent
	edge    string // that it was posted to
	app     string // pass_thread_control: to which
	text    string
	tag     string // metadata, biz_opaque_callback_data
}

var graphPath = regexp.MustCompile(`^/v\d{1,3}\.\d{1,3}/([^/]{1,64})/(messages|pass_thread_control|take_thread_control)$`)

// read understands a request. It is pure but for the channels, which never
// change: the simulator calls it outside of its lock.
func (w *World) read(req GraphRequest) send {
	id := graphPath.FindStringSubmatch(req.Path)
	if id == nil || req.Method != "POST" {
		return send{err: unknownObject()}
	}
	i, ok := w.byID[id[1]]
	if !ok {
		return send{err: unknownObject()}
	}
	c := &w.channels[i]
	if req.Token != c.Token {
		return send{channel: i, err: badToken(c.index)}
	}
	if (req.Proof != "" || w.cfg.RequireProof) && !rightProof(w.cfg.Secret, req.Token, req.Proof) {
		return send{channel: i, err: badParameter("Invalid appsecret_proof provided in the API argument")}
	}
	var s send
	if c.index == onWhatsApp {
		s = readWhatsApp(req.Body)
	} else {
		s = readMessaging(req.Body, c.index)
	}
	if s.edge = id[2]; s.edge != edgeMessages {
		s = readThread(req.Body, c.index, s.edge)
	}
	s.channel = i
	return s
}

// Where a send is posted to, below its channel.
const (
	edgeMessages = "messages"
	edgePass     = "pass_thread_control"
	edgeTake     = "take_thread_control"
)

// readThread reads what moves a thread between apps (Page Pass Thread Control and Page
// Take Thread Control of the Graph API's reference).
func readThread(body []byte, index int, edge string) send {
	var m struct {
		Recipient recipient   `json:"recipient"`
		App       json.Number `json:"target_app_id"`
	}
	if index == onWhatsApp {
		return send{err: unknownObject()}
	}
	if json.Unmarshal(body, &m) != nil {
		return send{err: badParameter("Invalid parameter")}
	}
	s := send{key: m.Recipient.key(), notice: true, edge: edge, app: m.App.String()}
	switch {
	case s.key == "":
		s.err = missing(index, "recipient")
	case edge == edgePass && s.app == "":
		s.err = missing(index, "target_app_id")
	case strings.Trim(s.app, "0123456789") != "":
		s.err = badParameter("Param target_app_id must be a valid ID")
	}
	return s
}

type messagingBody struct {
	Recipient    recipient `json:"recipient"`
	Type         string    `json:"messaging_type"`
	Tag          string    `json:"tag"`
	SenderAction string    `json:"sender_action"`
	Payload      reactedTo `json:"payload"`
	ReplyTo      *quoted   `json:"reply_to"`
	Message      *struct {
		Text         *string       `json:"text"`
		Attachment   *attachment   `json:"attachment"`
		Attachments  []attachment  `json:"attachments"`
		Template     *sentTemplate `json:"template"`
		Metadata     string        `json:"metadata"`
		QuickReplies []quickReply  `json:"quick_replies"`
	} `json:"message"`
}

type quickReply struct {
	ContentType string `json:"content_type"`
	Title       string `json:"title"`
	Payload     string `json:"payload"`
}

// readMessaging reads a send of Messenger or Instagram.
func readMessaging(body []byte, index int) send {
	var m messagingBody
	if json.Unmarshal(body, &m) != nil {
		return send{err: badParameter("Invalid parameter")}
	}
	s := send{key: m.Recipient.key()}
	switch {
	case s.key == "":
		s.err = missing(index, "recipient")
	case m.Message == nil && oneOf(m.SenderAction, "typing_on", "typing_off", "mark_seen", "react", "unreact"):
		s.notice, s.err = true, m.Payload.check(m.SenderAction)
	case m.Message == nil:
		s.err = missing(index, "message")
	default:
		s.tag = m.Message.Metadata
		if m.Message.Text != nil {
			s.text = *m.Message.Text
		}
		s.err = checkMessaging(&m, s.text, index)
	}
	return s
}

func checkMessaging(m *messagingBody, text string, index int) *graphError {
	attached := m.Message.Attachment != nil || len(m.Message.Attachments) > 0 || m.Message.Template != nil
	switch {
	case index == onMessenger && m.Type == "":
		return missing(index, "messaging_type")
	case m.Type != "" && !oneOf(m.Type, "RESPONSE", "UPDATE", "MESSAGE_TAG", "UTILITY"):
		return badParameter("Param messaging_type must be one of {RESPONSE, UPDATE, MESSAGE_TAG, UTILITY}")
	case m.Type == "MESSAGE_TAG" && m.Tag != "HUMAN_AGENT":
		return badParameter("Invalid or no longer supported message tag")
	case attached == (text != ""):
		return badParameter("Param message must have either text or an attachment")
	case index == onMessenger && utf8.RuneCountInString(text) > messengerTextMax:
		return badParameter("Length of param message[text] must be less than or equal to 2000")
	case index == onInstagram && len(text) > instagramTextMax:
		return badParameter("Length of param message[text] must be less than or equal to 1000")
	case len(m.Message.Metadata) > metadataMax:
		return badParameter("Length of param message[metadata] must be less than or equal to 1000")
	}
	if err := checkAttached(m); err != nil {
		return err
	}
	return checkQuickReplies(m.Message.QuickReplies)
}

func checkQuickReplies(replies []quickReply) *graphError {
	if len(replies) > quickRepliesMax {
		return badParameter("Too many elements in param message[quick_replies]: at most 13")
	}
	for _, q := range replies {
		switch {
		case !oneOf(q.ContentType, "text", "user_phone_number", "user_email"):
			return badParameter("Param message[quick_replies][content_type] is invalid")
		case q.ContentType != "text":
		case q.Title == "" || utf8.RuneCountInString(q.Title) > titleMax:
			return badParameter("Param message[quick_replies][title] must have 1 to 20 characters")
		case q.Payload == "" || utf8.RuneCountInString(q.Payload) > payloadMax:
			return badParameter("Param message[quick_replies][payload] must have 1 to 1000 characters")
		}
	}
	return nil
}

type whatsappBody struct {
	Product       string           `json:"messaging_product"`
	RecipientType string           `json:"recipient_type"`
	To            string           `json:"to"`
	Recipient     string           `json:"recipient"`
	Type          string           `json:"type"`
	Status        string           `json:"status"`
	MessageID     string           `json:"message_id"`
	Opaque        string           `json:"biz_opaque_callback_data"`
	Context       *whatsappContext `json:"context"`
	Typing        *typing          `json:"typing_indicator"`
	Text          *whatsappText    `json:"text"`
	Interactive   *interactiveBody `json:"interactive"`
	Template      *sentTemplate    `json:"template"`
	Image         *sentMedia       `json:"image"`
	Video         *sentMedia       `json:"video"`
	Audio         *sentMedia       `json:"audio"`
	Document      *sentMedia       `json:"document"`
	Sticker       *sentMedia       `json:"sticker"`
	Location      *sentLocation    `json:"location"`
	Contacts      json.RawMessage  `json:"contacts"`
	Reaction      *sentReaction    `json:"reaction"`
}

type whatsappText struct {
	Body string `json:"body"`
}

type interactiveBody struct {
	Type   string        `json:"type"`
	Header *whatsappBare `json:"header"`
	Body   whatsappBare  `json:"body"`
	Footer *whatsappBare `json:"footer"`
	Action struct {
		Name       string          `json:"name"`
		Parameters tappedParameter `json:"parameters"`
		Button     string          `json:"button"`
		Buttons    []struct {
			Type  string  `json:"type"`
			Reply idTitle `json:"reply"`
		} `json:"buttons"`
		Sections []listSection `json:"sections"`
	} `json:"action"`
}

type whatsappBare struct {
	Text string `json:"text"`
}

type idTitle struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// readWhatsApp reads a send of WhatsApp.
func readWhatsApp(body []byte) send {
	var m whatsappBody
	if json.Unmarshal(body, &m) != nil {
		return send{err: badParameter("Invalid parameter")}
	}
	if m.Product != "whatsapp" {
		return send{err: badParameter("The parameter messaging_product is required.")}
	}
	if m.Status != "" {
		if m.Status != "read" || m.MessageID == "" {
			return send{err: missing(onWhatsApp, "message_id")}
		}
		if m.Typing != nil && m.Typing.Type != "text" {
			return send{err: badValue("typing_indicator type must be text")}
		}
		return send{notice: true}
	}
	s := send{key: strings.TrimPrefix(m.To, "+"), inTo: true, tag: m.Opaque}
	if m.To == "" { // "to" wins if both are there
		s.key, s.inTo = m.Recipient, false
	}
	switch {
	case s.key == "":
		s.err = missing(onWhatsApp, "to")
	case !oneOf(m.RecipientType, "", "individual", "group"):
		s.err = badParameter("Param recipient_type must be one of {individual, group}")
	case len(m.Opaque) > opaqueMax:
		s.err = badValue("biz_opaque_callback_data is longer than 512 characters")
	case m.Context != nil && m.Context.MessageID == "":
		s.err = missing(onWhatsApp, "context.message_id")
	default:
		s.text, s.err = m.content()
	}
	return s
}

// content is the text that the message shows, if it shows one.
func (m *whatsappBody) content() (string, *graphError) {
	switch m.Type {
	case "", "text":
		if m.Text == nil || m.Text.Body == "" {
			return "", missing(onWhatsApp, "text.body")
		}
		if utf8.RuneCountInString(m.Text.Body) > whatsappTextMax {
			return "", badParameter("Param text['body'] must be at most 4096 characters long.")
		}
		return m.Text.Body, nil
	case "interactive":
		if m.Interactive == nil {
			return "", missing(onWhatsApp, "interactive")
		}
		return m.Interactive.Body.Text, m.Interactive.check()
	}
	return "", m.checkOther()
}

func (i *interactiveBody) check() *graphError {
	longest := interactiveMax
	if i.Type == interactiveList {
		longest = whatsappTextMax
	}
	if n := utf8.RuneCountInString(i.Body.Text); n == 0 || n > longest {
		return badValue("Interactive body text length invalid")
	}
	if err := i.checkFrame(); err != nil {
		return err
	}
	switch i.Type {
	case interactiveButton:
		return i.checkButtons()
	case interactiveList:
		return i.checkList()
	case "cta_url", "location_request_message", "flow":
		return i.checkTapped()
	case "product", "product_list", "catalog_message", "address_message":
		return nil
	}
	return badValue("Interactive type is not valid")
}

func (i *interactiveBody) checkButtons() *graphError {
	if n := len(i.Action.Buttons); n == 0 || n > buttonsMax {
		return badValue("Invalid buttons count. Min allowed buttons: 1, max allowed buttons: 3")
	}
	ids, titles := map[string]bool{}, map[string]bool{}
	for _, b := range i.Action.Buttons {
		switch {
		case b.Type != "reply":
			return badValue("Button type must be reply")
		case b.Reply.ID == "" || utf8.RuneCountInString(b.Reply.ID) > buttonIDMax:
			return badValue("Button id must have 1 to 256 characters")
		case b.Reply.Title == "" || utf8.RuneCountInString(b.Reply.Title) > titleMax:
			return badValue("Button title must have 1 to 20 characters")
		case ids[b.Reply.ID] || titles[b.Reply.Title]:
			return badValue("Button ids and titles must be unique")
		}
		ids[b.Reply.ID], titles[b.Reply.Title] = true, true
	}
	return nil
}

func oneOf(s string, choices ...string) bool {
	return slices.Contains(choices, s)
}
