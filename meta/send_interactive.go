package meta

import (
	"cmp"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// whatsAppInteractive is a message with something to choose or to tap.
type whatsAppInteractive struct {
	Type   string          `json:"type"`
	Header *whatsAppHeader `json:"header,omitempty"`
	Body   whatsAppBody    `json:"body"`
	Footer *whatsAppBody   `json:"footer,omitempty"`
	Action whatsAppAction  `json:"action"`
}

type whatsAppHeader struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type whatsAppBody struct {
	Text string `json:"text"`
}

type whatsAppAction struct {
	Name       string              `json:"name,omitempty"`
	Button     string              `json:"button,omitempty"`
	Buttons    []whatsAppButton    `json:"buttons,omitempty"`
	Sections   []whatsAppSection   `json:"sections,omitempty"`
	Parameters *whatsAppParameters `json:"parameters,omitempty"`
}

type whatsAppButton struct {
	Type  string        `json:"type"`
	Reply whatsAppReply `json:"reply"`
}

type whatsAppSection struct {
	Title string        `json:"title,omitempty"`
	Rows  []whatsAppRow `json:"rows"`
}

type whatsAppReply struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

type whatsAppRow struct {
	ID          string `json:"id"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
}

// whatsAppParameters are those of a URL's button, or of a flow.
type whatsAppParameters struct {
	DisplayText string              `json:"display_text,omitempty"`
	URL         string              `json:"url,omitempty"`
	Version     string              `json:"flow_message_version,omitempty"`
	FlowID      string              `json:"flow_id,omitempty"`
	FlowToken   string              `json:"flow_token,omitempty"`
	FlowCTA     string              `json:"flow_cta,omitempty"`
	FlowAction  string              `json:"flow_action,omitempty"`
	Mode        string              `json:"mode,omitempty"`
	Payload     *whatsAppFlowScreen `json:"flow_action_payload,omitempty"`
}

type whatsAppFlowScreen struct {
	Screen string         `json:"screen"`
	Data   jsontext.Value `json:"data,omitempty"`
}

// flowMessageVersion is that of the parameters above.
const flowMessageVersion = "3"

func isInteractive(send *parley.Send) bool {
	return len(send.QuickReplies) > 0 || len(send.Buttons) > 0 || send.List != nil || send.Flow != nil || send.AskLocation
}

func newInteractive(send *parley.Send, s Sending) (*whatsAppInteractive, error) {
	in := &whatsAppInteractive{Body: whatsAppBody{Text: send.Text}}
	if err := in.frame(send); err != nil {
		return nil, err
	}
	if err := in.fill(send, s); err != nil {
		return nil, err
	}
	return in, nil
}

// fill adds what there is to choose or to tap.
func (in *whatsAppInteractive) fill(send *parley.Send, s Sending) error {
	switch {
	case send.List != nil:
		return in.list(send.List.Sections, listLabel(send.List, s))
	case len(send.QuickReplies) > MaxWhatsAppButtons:
		return in.list([]parley.ListSection{{Rows: rowsOf(send.QuickReplies)}}, listLabel(nil, s))
	}
	if err := within(limit{"MaxWhatsAppButtonBody", characters(send.Text), MaxWhatsAppButtonBody}); err != nil {
		return err
	}
	switch {
	case send.Flow != nil:
		return in.flow(send.Flow)
	case send.AskLocation:
		in.Type, in.Action.Name = "location_request_message", "send_location"
		return nil
	case len(send.Buttons) == 1 && send.Buttons[0].URL != "":
		return in.link(send.Buttons[0])
	case len(send.Buttons) > 0:
		return in.buttons(send.Buttons)
	}
	return in.buttons(buttonsOf(send.QuickReplies))
}

func (in *whatsAppInteractive) frame(send *parley.Send) error {
	if send.Header != "" {
		in.Header = &whatsAppHeader{Type: "text", Text: send.Header}
	}
	if send.Footer != "" {
		in.Footer = &whatsAppBody{Text: send.Footer}
	}
	return within(
		limit{"MaxWhatsAppHeader", characters(send.Header), MaxWhatsAppHeader},
		limit{"MaxWhatsAppFooter", characters(send.Footer), MaxWhatsAppFooter},
	)
}

func buttonsOf(replies []parley.QuickReply) []parley.Button {
	out := make([]parley.Button, 0, len(replies))
	for _, q := range replies {
		out = append(out, parley.Button{Title: q.Title, Payload: q.Payload})
	}
	return out
}

func rowsOf(replies []parley.QuickReply) []parley.ListRow {
	out := make([]parley.ListRow, 0, len(replies))
	for _, q := range replies {
		out = append(out, parley.ListRow{Title: q.Title, Payload: q.Payload})
	}
	return out
}

func (in *whatsAppInteractive) buttons(buttons []parley.Button) error {
	in.Type = "button"
	if err := within(limit{"MaxWhatsAppButtons", len(buttons), MaxWhatsAppButtons}); err != nil {
		return err
	}
	for _, b := range buttons {
		if b.URL != "" {
			return noneOnWhatsApp("button with a URL beside others")
		}
		reply := whatsAppReply{ID: cmp.Or(b.Payload, b.Title), Title: b.Title}
		same := func(x whatsAppButton) bool { return x.Reply.ID == reply.ID || x.Reply.Title == reply.Title }
		if slices.ContainsFunc(in.Action.Buttons, same) {
			return noneOnWhatsApp("two buttons with one title or payload")
		}
		if err := within(
			limit{"MaxWhatsAppButton", characters(reply.Title), MaxWhatsAppButton},
			limit{"MaxWhatsAppButtonID", characters(reply.ID), MaxWhatsAppButtonID},
		); err != nil {
			return err
		}
		in.Action.Buttons = append(in.Action.Buttons, whatsAppButton{Type: "reply", Reply: reply})
	}
	return nil
}

// link is a button with a URL.
func (in *whatsAppInteractive) link(b parley.Button) error {
	in.Type, in.Action.Name = "cta_url", "cta_url"
	in.Action.Parameters = &whatsAppParameters{DisplayText: b.Title, URL: b.URL}
	return within(limit{"MaxWhatsAppButton", characters(b.Title), MaxWhatsAppButton})
}

func (in *whatsAppInteractive) list(sections []parley.ListSection, label string) error {
	in.Type, in.Action.Button = "list", label
	rows := 0
	for _, s := range sections {
		rows += len(s.Rows)
	}
	if err := within(
		limit{"MaxWhatsAppRows", rows, MaxWhatsAppRows},
		limit{"MaxWhatsAppListBody", characters(in.Body.Text), MaxWhatsAppListBody},
		limit{"MaxWhatsAppListLabel", characters(label), MaxWhatsAppListLabel},
	); err != nil {
		return err
	}
	for _, s := range sections {
		if err := in.section(s); err != nil {
			return err
		}
	}
	return nil
}

func (in *whatsAppInteractive) section(s parley.ListSection) error {
	if err := within(limit{"MaxWhatsAppSection", characters(s.Title), MaxWhatsAppSection}); err != nil {
		return err
	}
	out := whatsAppSection{Title: s.Title}
	for _, r := range s.Rows {
		row := whatsAppRow{ID: cmp.Or(r.Payload, r.Title), Title: r.Title, Description: r.Description}
		if err := within(
			limit{"MaxWhatsAppRow", characters(row.Title), MaxWhatsAppRow},
			limit{"MaxWhatsAppRowID", characters(row.ID), MaxWhatsAppRowID},
			limit{"MaxWhatsAppDescription", characters(row.Description), MaxWhatsAppDescription},
		); err != nil {
			return err
		}
		out.Rows = append(out.Rows, row)
	}
	in.Action.Sections = append(in.Action.Sections, out)
	return nil
}

func (in *whatsAppInteractive) flow(f *parley.Flow) error {
	p := &whatsAppParameters{
		Version: flowMessageVersion, FlowID: f.ID, FlowToken: f.Token, FlowCTA: f.Button, FlowAction: "data_exchange",
	}
	if f.Screen != "" {
		p.FlowAction = "navigate"
		p.Payload = &whatsAppFlowScreen{Screen: f.Screen, Data: jsontext.Value(f.Data)}
	}
	if f.Draft {
		p.Mode = "draft"
	}
	in.Type, in.Action.Name, in.Action.Parameters = "flow", "flow", p
	return within(limit{"MaxWhatsAppFlowLabel", characters(f.Button), MaxWhatsAppFlowLabel})
}
