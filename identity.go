package parley

import (
	"fmt"
	"strings"
)

// Brand names a white-label customer. It is the first field of every identity
// and leads every stored key, so that no row of one brand is met while reading
// another's. It must not be empty or contain a slash.
type Brand string

// App is the name under which a Meta app posts its webhooks: the last element
// of /webhooks/{app}. An app holds the secrets; one app may serve channels of
// many brands.
type App string

// ChannelKind says what a channel is. The values are stored; they never change.
type ChannelKind string

// The kinds of channels.
const (
	Messenger       ChannelKind = "messenger"        // a Facebook Page
	Instagram       ChannelKind = "instagram"        // an Instagram professional account
	WhatsApp        ChannelKind = "whatsapp"         // a WhatsApp phone number, by its phone_number_id
	WhatsAppAccount ChannelKind = "whatsapp_account" // a WhatsApp Business Account: fields that name no number
)

// Valid reports whether k is one of the kinds above.
func (k ChannelKind) Valid() bool {
	switch k {
	case Messenger, Instagram, WhatsApp, WhatsAppAccount:
		return true
	}
	return false
}

// Channel is one entrance of a brand: a Page, an Instagram account, a WhatsApp
// number or account. ID is Meta's id of it.
type Channel struct {
	Brand Brand
	Kind  ChannelKind
	ID    string
}

// String is brand/kind/id, the form in which a channel is stored and shown.
func (c Channel) String() string {
	return string(c.Brand) + "/" + string(c.Kind) + "/" + c.ID
}

// Validate says what is wrong with c: an empty part, an unknown kind, a slash
// or a control character in a part (they would make the stored form ambiguous).
func (c Channel) Validate() error {
	switch {
	case c.Brand == "" || strings.ContainsFunc(string(c.Brand), notPlain):
		return fmt.Errorf("brand %q: want a non-empty name without slashes or control characters", c.Brand)
	case !c.Kind.Valid():
		return fmt.Errorf("channel kind %q: want messenger, instagram, whatsapp or whatsapp_account", c.Kind)
	case c.ID == "" || strings.ContainsFunc(c.ID, notPlain):
		return fmt.Errorf("channel id %q: want a non-empty id without slashes or control characters", c.ID)
	}
	return nil
}

// ParseChannel reads what [Channel.String] wrote.
func ParseChannel(s string) (Channel, error) {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 {
		return Channel{}, fmt.Errorf("channel %q: want brand/kind/id", s)
	}
	c := Channel{Brand: Brand(parts[0]), Kind: ChannelKind(parts[1]), ID: parts[2]}
	if err := c.Validate(); err != nil {
		return Channel{}, fmt.Errorf("channel %q: %w", s, err)
	}
	return c, nil
}

// Shard is the shard by which a channel's sender is found, in [0, Shards).
func (c Channel) Shard() uint16 { return Conversation{Channel: c}.Shard() }

func notPlain(r rune) bool { return r == '/' || r < ' ' || r == 0x7f }

// Contact is one key by which a channel knows a person or a subject. Its prefix
// says which sort of key it is; a person may have several (see
// [Event.Contacts]).
type Contact string

// The sorts of contact keys. Events about no person belong to a subject, so
// that they don't meet in one conversation per channel.
const (
	UserKey     = "user:"     // Messenger PSID, Instagram IGSID
	UserRefKey  = "userref:"  // Messenger checkbox plugin: a person not yet known by PSID
	BSUIDKey    = "bsuid:"    // WhatsApp business-scoped user id
	PhoneKey    = "phone:"    // WhatsApp wa_id: digits, no plus sign
	GroupKey    = "group:"    // WhatsApp group
	PostKey     = "post:"     // post or media that is commented on
	FormKey     = "form:"     // lead form
	TemplateKey = "template:" // message template
	NumberKey   = "number:"   // a phone number that an account field is about
	SubjectKey  = "subject:"  // whatever else an event is about: its field
)

// Split cuts a contact key into its sort, with the colon, and its id.
func (c Contact) Split() (sort, id string) {
	i := strings.IndexByte(string(c), ':')
	return string(c[:i+1]), string(c[i+1:])
}

// Conversation is a channel's talk with one contact. Contact is the key that
// the store chose as the canonical one of the contact's set of keys.
type Conversation struct {
	Channel Channel
	Contact Contact
}

// String is brand/kind/channel/contact: the key under which a conversation is
// stored, hashed and shown. [ParseConversation] reads it back.
func (c Conversation) String() string {
	return c.Channel.String() + "/" + string(c.Contact)
}

// ParseConversation reads what [Conversation.String] wrote.
func ParseConversation(s string) (Conversation, error) {
	parts := strings.SplitN(s, "/", 4)
	if len(parts) != 4 || parts[3] == "" {
		return Conversation{}, fmt.Errorf("conversation %q: want brand/kind/channel/contact", s)
	}
	c := Conversation{
		Channel: Channel{Brand: Brand(parts[0]), Kind: ChannelKind(parts[1]), ID: parts[2]},
		Contact: Contact(parts[3]),
	}
	if err := c.Channel.Validate(); err != nil {
		return Conversation{}, fmt.Errorf("conversation %q: %w", s, err)
	}
	return c, nil
}

// Shards is the number of shards that conversations are spread over. It is part
// of the stored format and never changes.
const Shards = 4096

// Shard is the shard of the conversation, in [0, Shards): FNV-1a over the
// stored key, mixed so that the low bits depend on all of it. Stored format.
func (c Conversation) Shard() uint16 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	mix := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
	}
	for _, part := range [...]string{
		string(c.Channel.Brand), "/", string(c.Channel.Kind), "/", c.Channel.ID, "/", string(c.Contact),
	} {
		mix(part)
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return uint16(h % Shards)
}
