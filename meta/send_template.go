package meta

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

type graphComponent struct {
	Type       string           `json:"type"`
	SubType    string           `json:"sub_type,omitempty"`
	Index      *int             `json:"index,omitempty"`
	Parameters []graphParameter `json:"parameters,omitempty"`
}

type graphParameter struct {
	Type     string            `json:"type"`
	Name     string            `json:"parameter_name,omitempty"`
	Text     string            `json:"text,omitempty"`
	Payload  string            `json:"payload,omitempty"`
	Code     string            `json:"coupon_code,omitempty"`
	Image    *whatsAppMedia    `json:"image,omitempty"`
	Video    *whatsAppMedia    `json:"video,omitempty"`
	Document *whatsAppMedia    `json:"document,omitempty"`
	Location *whatsAppLocation `json:"location,omitempty"`
}

func newTemplate(kind parley.ChannelKind, t *parley.Template) (*graphTemplate, error) {
	out := &graphTemplate{Name: t.Name, Language: graphLanguage{Code: t.Language}}
	for i := range t.Components {
		c := &t.Components[i]
		if len(c.Raw) > 0 {
			out.Components = append(out.Components, jsontext.Value(c.Raw))
			continue
		}
		component, err := newComponent(kind, c)
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(component, jsontext.AllowInvalidUTF8(true))
		if err != nil {
			return nil, fmt.Errorf("encode template: %w", shapeOf(err))
		}
		out.Components = append(out.Components, b)
	}
	return out, nil
}

func newComponent(kind parley.ChannelKind, c *parley.Component) (*graphComponent, error) {
	out := &graphComponent{Type: c.Type, SubType: c.SubType}
	if c.Type == "button" {
		out.Index = &c.Index // 0 has to be said, too
	}
	for i := range c.Parameters {
		p, err := newParameter(kind, &c.Parameters[i])
		if err != nil {
			return nil, err
		}
		out.Parameters = append(out.Parameters, p)
	}
	return out, nil
}

func newParameter(kind parley.ChannelKind, p *parley.Parameter) (graphParameter, error) {
	out := graphParameter{Name: p.Name, Text: p.Text, Payload: p.Payload, Code: p.Code}
	switch {
	case p.Media != nil:
		if err := out.attach(kind, p.Media); err != nil {
			return out, err
		}
	case p.Location != nil:
		out.Type, out.Location = "location", newLocation(p.Location)
	case p.Payload != "" && kind == parley.Messenger:
		out.Type = "POSTBACK"
	case p.Payload != "":
		out.Type = "payload"
	case p.Code != "":
		out.Type = "coupon_code"
	default:
		out.Type = "text"
	}
	return out, nil
}

func (p *graphParameter) attach(kind parley.ChannelKind, m *parley.Media) error {
	media := &whatsAppMedia{ID: m.ID, Link: m.URL, Filename: m.Name}
	p.Type = string(m.Kind)
	switch {
	case m.Caption != "":
		return &UnsupportedError{Kind: kind, What: "caption in a template"}
	case m.Kind == parley.Image:
		p.Image = media
	case m.Kind == parley.Video:
		p.Video = media
	case m.Kind == parley.Document:
		p.Document = media
	default:
		return &UnsupportedError{Kind: kind, What: string(m.Kind) + " in a template"}
	}
	return nil
}
