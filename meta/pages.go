package meta

import (
	"cmp"

	"github.com/parleychat/parley"
)

// pageChange decodes an element of changes[] of a Page or an Instagram account.
func (d *decoder) pageChange(u update, c *change) error {
	field, err := fieldName(c)
	if err != nil {
		return err
	}
	u.field = field
	if c.value == nil { // an app that did not subscribe to values
		return d.unknown(&u, subject(field), "")
	}
	switch field {
	case "feed", "mention", "ratings", "comments", "live_comments", "mentions":
		return d.comment(&u, c.value)
	case "leadgen":
		return d.lead(&u, c.value)
	case "messages", "message_echoes", "message_edit", "message_edits", "message_reactions", "messaging_postbacks",
		"messaging_referral", "messaging_referrals", "messaging_seen", "messaging_optins", "messaging_handover",
		"messaging_handovers", "messaging_policy_enforcement", "response_feedback":
		// Some apps get direct messages as changes.
		u.raw = c.value
		return d.messaging(u, false)
	case "standby":
		u.raw = c.value
		return d.messaging(u, true)
	case "story_insights", "marketing_messages_subscriber_upload_status", "messenger_template_status_update":
		return d.pageNotice(&u, c.value)
	}
	return d.unknown(&u, subject(field), "")
}

// pageComment is the value of feed and the like. The names differ by field.
type pageComment struct {
	Item      string `json:"item"`
	Verb      string `json:"verb"`
	ID        text   `json:"id"` // Instagram: of the comment
	CommentID text   `json:"comment_id"`
	PostID    text   `json:"post_id"`
	StoryID   text   `json:"open_graph_story_id"` // ratings: the review's post
	ParentID  text   `json:"parent_id"`
	MediaID   text   `json:"media_id"`
	Media     *struct {
		ID text `json:"id"`
	} `json:"media"`
	From         *author `json:"from"`
	SenderID     text    `json:"sender_id"`
	SenderName   string  `json:"sender_name"`
	ReviewerID   text    `json:"reviewer_id"`
	ReviewerName string  `json:"reviewer_name"`
	Message      string  `json:"message"`
	Text         string  `json:"text"`
	Review       string  `json:"review_text"`
	Created      text    `json:"created_time"` // seconds; Instagram has none
}

type author struct {
	ID       text   `json:"id"`
	Name     string `json:"name"`
	Username string `json:"username"`
}

func (c *pageComment) post() text {
	if c.Media != nil {
		return c.Media.ID
	}
	return cmp.Or(c.PostID, c.MediaID, c.StoryID)
}

func (d *decoder) comment(u *update, value []byte) error {
	var c pageComment
	if err := decodeStrictly(value, &c); err != nil {
		return at("value", err)
	}
	in := parley.Comment{
		Field: u.field, Item: c.Item, Verb: c.Verb, ID: string(cmp.Or(c.CommentID, c.ID)), PostID: string(c.post()),
		ParentID: string(c.ParentID), FromID: string(cmp.Or(c.SenderID, c.ReviewerID)),
		FromName: cmp.Or(c.SenderName, c.ReviewerName), Text: cmp.Or(c.Message, c.Text, c.Review),
		Raw: append([]byte(nil), value...),
	}
	if c.From != nil {
		in.FromID, in.FromName = string(c.From.ID), cmp.Or(c.From.Name, c.From.Username)
	}
	where := subject(u.field)
	if in.PostID != "" {
		where = []parley.Contact{parley.PostKey + parley.Contact(in.PostID)}
	}
	key, err := u.contentKey("comment")
	if err != nil {
		return err
	}
	return d.event(u, where, parley.Event{Key: key, Time: parseTime(c.Created), Input: in})
}

func (d *decoder) lead(u *update, value []byte) error {
	var l struct {
		ID      text `json:"leadgen_id"`
		FormID  text `json:"form_id"`
		AdID    text `json:"ad_id"`
		Created text `json:"created_time"`
	}
	if err := decodeStrictly(value, &l); err != nil {
		return at("value", err)
	}
	where := subject(u.field)
	if l.FormID != "" {
		where = []parley.Contact{parley.FormKey + parley.Contact(l.FormID)}
	}
	e := parley.Event{Time: parseTime(l.Created), Input: parley.Lead{
		ID: string(l.ID), FormID: string(l.FormID), AdID: string(l.AdID), Raw: append([]byte(nil), value...),
	}}
	var err error
	if e.Key = u.key("lead", string(l.ID)); l.ID == "" {
		e.Key, err = u.contentKey("lead")
	}
	if err != nil {
		return err
	}
	return d.event(u, where, e)
}

func (d *decoder) pageNotice(u *update, value []byte) error {
	var n struct {
		MediaID text `json:"media_id"`
		Event   text `json:"event"`
	}
	if err := decodeStrictly(value, &n); err != nil {
		return at("value", err)
	}
	where := subject(u.field)
	if n.MediaID != "" {
		where = []parley.Contact{parley.PostKey + parley.Contact(n.MediaID)}
	}
	key, err := u.contentKey("notice")
	if err != nil {
		return err
	}
	return d.event(u, where, parley.Event{Key: key, Input: parley.Notice{
		Field: u.field, Event: string(n.Event), Raw: append([]byte(nil), value...),
	}})
}
