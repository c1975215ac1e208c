package meta

import "github.com/go-json-experiment/json/jsontext"

// waMessage is an element of messages[] or message_echoes[]. Type names the
// member that holds the content.
type waMessage struct {
	ID          text                 `json:"id"`
	From        text                 `json:"from"`
	FromUserID  text                 `json:"from_user_id"`
	To          text                 `json:"to"`         // echoes
	ToUserID    text                 `json:"to_user_id"` // echoes
	GroupID     text                 `json:"group_id"`
	Timestamp   text                 `json:"timestamp"` // seconds
	Type        string               `json:"type"`
	Text        *waText              `json:"text"`
	Image       *waMedia             `json:"image"`
	Video       *waMedia             `json:"video"`
	Audio       *waMedia             `json:"audio"`
	Voice       *waMedia             `json:"voice"` // of old versions
	Document    *waMedia             `json:"document"`
	Sticker     *waMedia             `json:"sticker"`
	Location    *kept[waLocation]    `json:"location"`
	Button      *waButton            `json:"button"`
	Interactive *kept[waInteractive] `json:"interactive"`
	Order       *kept[waOrder]       `json:"order"`
	Reaction    *waReaction          `json:"reaction"`
	System      *kept[waSystem]      `json:"system"`
	Edit        *waEdit              `json:"edit"`
	Revoke      *waEdit              `json:"revoke"`
	Unsupported *waUnsupported       `json:"unsupported"`
	Context     *waContext           `json:"context"`
	Referral    *kept[waReferral]    `json:"referral"`
	Rest        jsontext.Value       `json:",embed"` // contacts, errors …
}

type waText struct {
	Body string `json:"body"`
}

type waMedia struct {
	ID       text   `json:"id"`
	MIME     string `json:"mime_type"`
	SHA256   string `json:"sha256"`
	Caption  string `json:"caption"`
	Filename string `json:"filename"`
	URL      string `json:"url"`

	Rest jsontext.Value `json:",embed"` // voice: dictated; animated: of a sticker
}

type waLocation struct {
	Latitude  degrees `json:"latitude"`
	Longitude degrees `json:"longitude"`
	Name      string  `json:"name"`
	Address   string  `json:"address"`
	URL       string  `json:"url"`
}

type waButton struct {
	Payload string `json:"payload"`
	Text    string `json:"text"`
}

type waInteractive struct {
	Type   string   `json:"type"`
	Button *waReply `json:"button_reply"`
	List   *waReply `json:"list_reply"`
	Form   *struct {
		Body string `json:"body"`
	} `json:"nfm_reply"`
}

type waReply struct {
	ID    text   `json:"id"`
	Title string `json:"title"`
}

type waOrder struct {
	Text string `json:"text"`
}

type waReaction struct {
	MessageID text   `json:"message_id"`
	Emoji     string `json:"emoji"` // absent or empty: removed
}

type waSystem struct {
	Type     string `json:"type"`
	Phone    text   `json:"wa_id"`
	NewPhone text   `json:"new_wa_id"` // of old versions
	UserID   text   `json:"user_id"`
}

// waEdit is the change or the withdrawal of an earlier message.
type waEdit struct {
	Original text       `json:"original_message_id"`
	Message  *waContent `json:"message"`
}

// waContent is the part of a message that an edit can change.
type waContent struct {
	Text     *waText  `json:"text"`
	Image    *waMedia `json:"image"`
	Video    *waMedia `json:"video"`
	Document *waMedia `json:"document"`
}

type waUnsupported struct {
	Type string `json:"type"`
}

type waContext struct {
	ID                  text           `json:"id"`
	Forwarded           flag           `json:"forwarded"`
	FrequentlyForwarded flag           `json:"frequently_forwarded"`
	Product             jsontext.Value `json:"referred_product"`
}

type waReferral struct {
	SourceType string `json:"source_type"`
	SourceID   text   `json:"source_id"`
	ClickID    string `json:"ctwa_clid"`
}
