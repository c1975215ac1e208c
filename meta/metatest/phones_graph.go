package metatest

import (
	"encoding/json"
	"time"
)

// typingFor is how long a typing bubble stays if nothing follows it.
const typingFor = 25 * time.Second

// posted is what phones read of a call of the Graph API beside what [World] does.
type posted struct {
	send
	body     object
	human    bool // tag HUMAN_AGENT
	template bool
}

// Graph takes one call of the Graph API and says how to answer it.
func (p *Phones) Graph(req GraphRequest, now time.Time) GraphAnswer {
	p.w.tick(now)
	if req.Method == "GET" {
		return p.profile(req)
	}
	s := posted{send: p.w.read(req)}
	if s.err != nil {
		return p.w.refuse(s.err)
	}
	if err := json.Unmarshal(req.Body, &s.body); err != nil {
		return p.w.refuse(badParameter("Invalid parameter"))
	}
	s.human, s.template = s.body["tag"] == "HUMAN_AGENT", s.body["type"] == "template" || member(s.body, "message")["template"] != nil
	c := &p.w.channels[s.channel]
	if p.troubles.GraphDown {
		return p.w.refuse(transientFault())
	}
	if s.notice {
		p.notice(&s, now)
		return GraphAnswer{Status: 200, Body: noticeAnswer(c.index, s.key)}
	}
	user, ok := p.w.byKey[s.key]
	if !ok || p.w.people[user].channel != s.channel {
		return p.w.refuse(noSuchUser(c.index))
	}
	if e := p.closed(c, p.all[user], &s, now); e != nil {
		return p.w.refuse(e)
	}
	return p.take(user, &s, now)
}

// member is an object within another; nil if there is none.
func member(o object, name string) object {
	m, _ := o[name].(object)
	return m
}

func stringIn(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// closed says that the time is over in which a user may be written to.
func (p *Phones) closed(c *Channel, f *Phone, s *posted, now time.Time) *graphError {
	window := dayOfMeta
	if s.human && c.index != onWhatsApp {
		window *= humanAgentDays
	}
	switch {
	case s.template || !f.Heard.IsZero() && now.Sub(f.Heard) < window:
		return nil
	case c.index == onWhatsApp:
		return injected(GraphCode{Code: 131047}, c.index)
	}
	return injected(GraphCode{Code: 10, Subcode: 2018278}, c.index)
}

// take puts a message on the screen.
func (p *Phones) take(user int32, s *posted, now time.Time) GraphAnswer {
	f, c := p.all[user], &p.w.channels[s.channel]
	f.Typing = time.Time{}
	b := &Bubble{ID: p.newID(f), At: now, Status: bubbleSending, Sent: s.body}
	if s.body["type"] == "reaction" {
		p.react(f, stringIn(member(s.body, "reaction"), "message_id"), stringIn(member(s.body, "reaction"), "emoji"))
	} else {
		p.show(f, b)
	}
	p.report(f, b)
	if p.troubles.LostAnswers {
		return GraphAnswer{Withhold: true}
	}
	return GraphAnswer{Status: 200, Body: p.w.acceptance(c.index, &s.send, user, b.ID)}
}

// report has the receiver told that a message is on its way, and there.
func (p *Phones) report(f *Phone, b *Bubble) {
	at := p.w.now
	if f.Platform == WhatsApp {
		p.inform(f, b, sent, at+int64(receiptAfter))
	} else {
		p.inform(f, b, echo, at+int64(receiptAfter))
	}
	if b.Status = bubbleDelivered; f.Platform != Instagram {
		p.inform(f, b, delivered, at+int64(arrivesAfter))
	}
}

func (p *Phones) react(f *Phone, id, emoji string) {
	if b := f.bubble(id); b != nil {
		b.Reaction = emoji
		p.change(f)
	}
}

// notice shows what isn't a message: typing, what was read, reactions.
func (p *Phones) notice(s *posted, now time.Time) {
	if s.body["status"] == "read" { // WhatsApp names the message only
		for _, f := range p.all {
			if id := stringIn(s.body, "message_id"); f.bubble(id) != nil {
				p.markRead(f, id)
				if s.body["typing_indicator"] != nil {
					f.Typing = now.Add(typingFor)
				}
			}
		}
		return
	}
	f, err := p.Phone(s.key)
	if err != nil {
		return
	}
	payload := member(s.body, "payload")
	switch s.body["sender_action"] {
	case "typing_on":
		f.Typing = now.Add(typingFor)
	case "typing_off":
		f.Typing = time.Time{}
	case "mark_seen":
		p.markRead(f, "")
	case "react":
		p.react(f, stringIn(payload, "message_id"), emojiOf(stringIn(payload, "reaction")))
	case "unreact":
		p.react(f, stringIn(payload, "message_id"), "")
	}
	p.change(f)
}

// emojiOf shows Messenger's word for a reaction.
func emojiOf(name string) string {
	if emoji := map[string]string{"love": "❤", "smile": "😆", "wow": "😮", "sad": "😢", "angry": "😠", "like": "👍", "dislike": "👎"}[name]; emoji != "" {
		return emoji
	}
	return name
}

// markRead shows the owner's messages up to one as read; all if it is none.
func (p *Phones) markRead(f *Phone, upTo string) {
	for _, b := range f.Bubbles {
		if b.Mine {
			b.Status = bubbleRead
		}
		if b.ID == upTo {
			break
		}
	}
	p.change(f)
}

// profile answers who a user is.
func (p *Phones) profile(req GraphRequest) GraphAnswer {
	if path := unversioned.FindStringSubmatch(req.Path); len(path) > 0 && path[3] == "" {
		if f, err := p.Phone(path[2]); err == nil && f.Platform != WhatsApp {
			first, last := displayed(f.Name)
			return GraphAnswer{Status: 200, Body: written(object{"id": f.ID, "name": f.Name, "first_name": first, "last_name": last})}
		}
	}
	return p.w.refuse(unknownObject())
}

// tagOf is what a send carries to be known by: metadata, biz_opaque_callback_data.
func tagOf(sent any) string {
	o, _ := sent.(object)
	if tag := stringIn(o, "biz_opaque_callback_data"); tag != "" {
		return tag
	}
	return stringIn(member(o, "message"), "metadata")
}

// textOf is the text of a send, as an echo repeats it.
func textOf(sent any) string {
	o, _ := sent.(object)
	return stringIn(member(o, "message"), "text")
}
