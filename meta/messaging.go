package meta

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// messagingUpdate is an element of messaging[] or standby[], of Messenger and
// Instagram. One of its members says what happened.
type messagingUpdate struct {
	Sender    party              `json:"sender"`
	Recipient party              `json:"recipient"`
	Timestamp text               `json:"timestamp"` // ms; seconds in tests of the dashboard
	Message   *messengerMessage  `json:"message"`
	Edit      *messageEdit       `json:"message_edit"`
	Postback  *messengerPostback `json:"postback"`
	Delivery  *delivery          `json:"delivery"`
	Read      *read              `json:"read"`
	Reaction  *messengerReaction `json:"reaction"`
	Referral  *kept[referral]    `json:"referral"`
	OptIn     *kept[optIn]       `json:"optin"`
	Link      *accountLinking    `json:"account_linking"`
	Pass      *kept[handover]    `json:"pass_thread_control"`
	Take      *kept[handover]    `json:"take_thread_control"`
	Request   *kept[handover]    `json:"request_thread_control"`
	Rest      jsontext.Value     `json:",embed"`
}

type party struct {
	ID      text `json:"id"`
	UserRef text `json:"user_ref"`
}

type messengerMessage struct {
	MID           text                  `json:"mid"`
	Text          string                `json:"text"`
	Seq           count                 `json:"seq"` // of old versions; says nothing
	QuickReply    *quickReply           `json:"quick_reply"`
	ReplyTo       *replyTo              `json:"reply_to"`
	Attachments   []messengerAttachment `json:"attachments"`
	Referral      *kept[referral]       `json:"referral"`
	IsEcho        flag                  `json:"is_echo"`
	IsDeleted     flag                  `json:"is_deleted"`
	IsUnsupported flag                  `json:"is_unsupported"`
	AppID         text                  `json:"app_id"`
	Metadata      text                  `json:"metadata"`
	Rest          jsontext.Value        `json:",embed"` // nlp, commands, sticker_id …
}

type quickReply struct {
	Payload string `json:"payload"`
}

type replyTo struct {
	MID   text `json:"mid"`
	Story *struct {
		ID  text   `json:"id"`
		URL string `json:"url"`
	} `json:"story"`
}

type messengerAttachment struct {
	Type    string         `json:"type"`
	Title   string         `json:"title"`
	URL     string         `json:"url"`
	Payload jsontext.Value `json:"payload"` // an object; a string or null in old fallbacks
}

type messageEdit struct {
	MID   text   `json:"mid"`
	Text  string `json:"text"`
	Edits count  `json:"num_edit"`
}

type messengerPostback struct {
	MID      text            `json:"mid"`
	Title    string          `json:"title"`
	Payload  string          `json:"payload"`
	Referral *kept[referral] `json:"referral"`
}

// delivery says that all messages up to Watermark were delivered, and may name
// some.
type delivery struct {
	MIDs      []text `json:"mids"`
	Watermark text   `json:"watermark"`
}

// read has a watermark on Messenger and the mid on Instagram
// (github.com/restfb/restfb/issues/1314).
type read struct {
	MID       text `json:"mid"`
	Watermark text `json:"watermark"`
}

type messengerReaction struct {
	MID      text   `json:"mid"`
	Action   string `json:"action"`
	Reaction string `json:"reaction"`
	Emoji    string `json:"emoji"`
}

type referral struct {
	Ref    string `json:"ref"`
	Source string `json:"source"`
	Type   string `json:"type"`
	AdID   text   `json:"ad_id"`
}

type optIn struct {
	Type    string `json:"type"`
	Ref     string `json:"ref"`
	UserRef text   `json:"user_ref"`
	Payload string `json:"payload"`
	Status  string `json:"notification_messages_status"`
}

type accountLinking struct {
	Status            string `json:"status"`
	AuthorizationCode string `json:"authorization_code"`
}

// handover holds app ids, which come as strings, numbers or null.
type handover struct {
	Previous  text `json:"previous_owner_app_id"`
	New       text `json:"new_owner_app_id"`
	Requested text `json:"requested_owner_app_id"`
	Metadata  text `json:"metadata"`
}

// kept is a value that is also kept as it came.
type kept[T any] struct {
	Value T
	Raw   jsontext.Value
}

// UnmarshalJSONFrom reads the next value of d, and a copy of it.
func (k *kept[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	raw, err := d.ReadValue()
	if err != nil {
		return err
	}
	k.Raw = raw.Clone()
	return decodeStrictly(k.Raw, &k.Value)
}

// kindOf is the member that says what happened, and its mid if it has one.
func (m *messagingUpdate) kindOf() (kind string, mid text) {
	switch {
	case m.Message != nil && bool(m.Message.IsEcho):
		return "echo", m.Message.MID
	case m.Message != nil:
		return "message", m.Message.MID
	case m.Edit != nil:
		return "message_edit", m.Edit.MID
	case m.Postback != nil:
		return "postback", m.Postback.MID
	case m.Reaction != nil:
		return "reaction", m.Reaction.MID
	case m.Delivery != nil:
		return "delivery", ""
	case m.Read != nil:
		return "read", m.Read.MID
	case m.OptIn != nil:
		return "optin", ""
	case m.Referral != nil:
		return "referral", ""
	case m.Link != nil:
		return "account_linking", ""
	case m.Pass != nil:
		return "pass_thread_control", ""
	case m.Take != nil:
		return "take_thread_control", ""
	case m.Request != nil:
		return "request_thread_control", ""
	}
	if kind = firstName(m.Rest); kind == "policy-enforcement" { // both spellings are seen
		kind = "policy_enforcement"
	}
	return kind, ""
}

// user is the party that isn't the channel. The provider puts the channel's id
// on either side, or leaves a side out; without any user the event belongs to
// its subject.
func (m *messagingUpdate) user(u *update, kind string) []parley.Contact {
	first, second := m.Sender.ID, m.Recipient.ID
	if kind == "echo" {
		first, second = second, first
	}
	self := text(u.channel.ID)
	switch {
	case first != "" && first != self:
		return []parley.Contact{parley.UserKey + parley.Contact(first)}
	case second != "" && second != self:
		return []parley.Contact{parley.UserKey + parley.Contact(second)}
	case m.OptIn != nil && m.OptIn.Value.UserRef != "":
		return []parley.Contact{parley.UserRefKey + parley.Contact(m.OptIn.Value.UserRef)}
	case m.Sender.UserRef != "":
		return []parley.Contact{parley.UserRefKey + parley.Contact(m.Sender.UserRef)}
	}
	return subject(kind)
}

// recipient is the first contact, empty if that is a subject.
func recipient(who []parley.Contact) parley.Contact {
	if sort, _ := who[0].Split(); sort == parley.SubjectKey {
		return ""
	}
	return who[0]
}

// messaging decodes an element of messaging[], standby[] or of a change that
// holds one.
func (d *decoder) messaging(u update, standby bool) error {
	var m messagingUpdate
	if err := decodeStrictly(u.raw, &m); err != nil {
		return err
	}
	kind, _ := m.kindOf()
	who := m.user(&u, kind)
	if kind == "echo" {
		if r, ok := d.echoed(&u, who, &m); ok {
			return d.receipt(&u, r)
		}
	}
	if standby {
		return d.overheard(&u, who, &m)
	}
	switch kind {
	case "delivery":
		return d.delivered(&u, recipient(who), &m)
	case "read":
		return d.receipt(&u, parley.Receipt{
			Status: parley.StatusRead, ProviderID: string(m.Read.MID), Contact: recipient(who),
			Watermark: parseTime(m.Read.Watermark), Time: parseTime(m.Timestamp),
		})
	}
	e, err := m.event(&u, kind)
	if err != nil {
		return err
	}
	if e.Input == nil {
		return d.unknownAt(&u, who, kind, e.Time)
	}
	return d.event(&u, who, e)
}

// echoed is the receipt that an echo is, if it shows a message that this app sent.
// On Messenger every send of ours carries its id as metadata. Instagram gives
// neither metadata nor app: whether such an echo is ours can only be told by its
// mid, by whoever knows the mids, so its receipt keeps what it says. Without a mid,
// or a contact, it isn't of ours.
func (d *decoder) echoed(u *update, who []parley.Contact, m *messagingUpdate) (parley.Receipt, bool) {
	msg := m.Message
	r := parley.Receipt{
		Status: parley.StatusEchoed, ProviderID: string(msg.MID), Row: rowID(string(msg.Metadata)),
		Contact: recipient(who), Time: parseTime(m.Timestamp),
	}
	switch {
	case !r.Row.IsZero(), msg.AppID != "" && string(msg.AppID) == d.opts.OwnAppID:
		return r, true
	case u.channel.Kind != parley.Instagram || msg.AppID != "" || msg.Metadata != "" || msg.MID == "" || r.Contact == "":
		return r, false
	}
	return r, r.Say(m.echo()) == nil
}

// rowVersion is the version digit of our ids. Others put UUIDs into metadata
// too, though hardly of this version.
const rowVersion = 7

// rowID is the id of an outgoing message that the provider told back; zero if
// it is something else.
func rowID(s string) parley.ID {
	id, err := parley.ParseID(s)
	if err != nil || id[6]>>4 != rowVersion {
		return parley.ID{}
	}
	return id
}

func (d *decoder) overheard(u *update, who []parley.Contact, m *messagingUpdate) error {
	kind, mid := m.kindOf()
	key, err := u.contentKey("standby")
	if err != nil {
		return err
	}
	return d.event(u, who, parley.Event{
		Key: key, Time: parseTime(m.Timestamp),
		Input: parley.Overheard{Of: kind, ID: string(mid), Raw: u.keep()},
	})
}

func (d *decoder) delivered(u *update, who parley.Contact, m *messagingUpdate) error {
	r := parley.Receipt{
		Status: parley.StatusDelivered, Contact: who,
		Watermark: parseTime(m.Delivery.Watermark), Time: parseTime(m.Timestamp),
	}
	if len(m.Delivery.MIDs) == 0 {
		return d.receipt(u, r)
	}
	for _, mid := range m.Delivery.MIDs {
		if len(mid) > maxProviderIDBytes {
			return at("delivery.mids", tooLong(len(mid), maxProviderIDBytes))
		}
	}
	for _, mid := range m.Delivery.MIDs {
		r.ProviderID = string(mid)
		if err := d.receipt(u, r); err != nil {
			return err
		}
	}
	return nil
}
