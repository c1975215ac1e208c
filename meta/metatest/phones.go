package metatest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of phones.
const (
	phonesMax  = 50   // users
	bubblesMax = 1000 // of a user; the oldest go first
	nameMax    = 40   // characters of a user's name
	emojiMax   = 32   // bytes
)

// The errors of somebody's acts.
var (
	ErrNoPhone  = errors.New("there is no such user")
	ErrNoBubble = errors.New("there is no such message on this phone")
)

// PhonesConfig describes the business whose users have the phones. The zero value
// of every field is usable.
type PhonesConfig struct {
	Seed        uint64
	App         string // its name in the webhook path
	AppID       string // Meta's numeric id of the app, as in echoes
	Secret      string // signs the webhooks
	VerifyToken string
	Media       string // base address of the files that users send
}

// Troubles are what goes wrong as long as they are switched on.
type Troubles struct {
	Duplicates  bool `json:"duplicates"`   // everything is delivered again a moment later
	Reorder     bool `json:"reorder"`      // what users do comes up to 3 s late, each for itself
	LostAnswers bool `json:"lost_answers"` // the Graph API takes sends and doesn't answer
	GraphDown   bool `json:"graph_down"`   // the Graph API refuses sends with HTTP 500
}

// Act is what somebody does with a phone: say something (Text), tap what a message
// offers (Tap), send a file or a place, react to a message.
type Act struct {
	Text    string `json:"text,omitempty"`    // what is said, or the title of what is tapped
	Payload string `json:"payload,omitempty"` // of what is tapped
	// Tap says what is tapped: quick_reply, button, list or template.
	Tap   string      `json:"tap,omitempty"`
	Media *PhoneFile  `json:"media,omitempty"`
	Place *PhonePlace `json:"place,omitempty"`
	// Emoji is the reaction to the message About; empty with React takes it back.
	React bool   `json:"react,omitempty"`
	Emoji string `json:"emoji,omitempty"`
	// About is the message that is tapped on, reacted to or replied to.
	About string `json:"about,omitempty"`
}

// PhoneFile is a file on the phone: a name of [Phones.Files].
type PhoneFile struct {
	Kind string `json:"kind"` // image, audio, video, document, sticker
	Name string `json:"name"`
}

// PhonePlace is where a user says to be.
type PhonePlace struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
	Address   string  `json:"address,omitempty"`
}

// How it stands with a message on a phone.
const (
	bubbleSending   = "sending"   // the user's: not acknowledged by the receiver; the business's: taken by Meta
	bubbleDelivered = "delivered" // acknowledged; on the phone
	bubbleRead      = "read"
)

// Bubble is a message on a phone.
type Bubble struct {
	ID     string    `json:"id"`
	Mine   bool      `json:"mine,omitempty"` // of the phone's owner
	At     time.Time `json:"at"`
	Status string    `json:"status"`
	Act    *Act      `json:"act,omitempty"`  // of the owner
	Sent   any       `json:"sent,omitempty"` // of the business: the body that it posted, as JSON
	// Deliveries is how often the receiver has acknowledged the owner's.
	Deliveries int    `json:"deliveries,omitempty"`
	Reaction   string `json:"reaction,omitempty"` // to it, of the other side
}

// Phone is a user's, with what is on its screen.
type Phone struct {
	ID       string    `json:"id"` // PSID, IGSID or wa_id
	Name     string    `json:"name"`
	Platform Platform  `json:"platform"`
	Channel  string    `json:"channel"` // where the user writes
	Bubbles  []*Bubble `json:"bubbles"`
	Typing   time.Time `json:"typing,omitzero"` // the business is typing until then
	Heard    time.Time `json:"heard,omitzero"`  // when the user last wrote
	Changed  uint64    `json:"changed"`         // grows with every change
}

// Phones is Meta with users whom somebody plays by hand, on one goroutine and with
// time as an argument, as [World] is. What they do becomes webhooks; what the
// Graph API takes appears on their screens. It judges nothing.
type Phones struct {
	w        *World // the channels, and what Meta knows of the users
	cfg      PhonesConfig
	chance   *rand.Rand
	all      []*Phone
	changes  uint64
	sent     uint64 // of bubbles: numbers their ids
	troubles Troubles
	outgoing queue[*letterbox]
	posts    map[uint64]*letterbox
	lastPost uint64
}

// letterbox is what is to be posted, until it is acknowledged.
type letterbox struct {
	body    []byte
	bubble  *Bubble // what it tells of, if that is something that the owner did
	phone   *Phone
	again   bool // it was acknowledged, and is delivered once more
	attempt int
}

// NewPhones makes the channels, one of each platform, and no users.
func NewPhones(cfg PhonesConfig, now time.Time) *Phones {
	w := NewWorld(Config{
		Seed: cfg.Seed, Users: 1, Rate: 1, Channels: Counts{1, 1, 1}, Start: now,
		App: cfg.App, AppID: cfg.AppID, Secret: cfg.Secret, VerifyToken: cfg.VerifyToken,
	})
	w.people = nil
	clear(w.byKey)
	cfg.App, cfg.AppID, cfg.Secret, cfg.VerifyToken = w.cfg.App, w.cfg.AppID, w.cfg.Secret, w.cfg.VerifyToken
	return &Phones{w: w, cfg: cfg, chance: rand.New(rand.NewPCG(cfg.Seed, 5)), posts: map[uint64]*letterbox{}}
}

// Config is the configuration with its defaults filled in.
func (p *Phones) Config() PhonesConfig { return p.cfg }

// Channels are those of the business.
func (p *Phones) Channels() []Channel { return p.w.channels }

// All are the phones, in the order in which they came; not to be changed.
func (p *Phones) All() []*Phone { return p.all }

// Troubles are what goes wrong now.
func (p *Phones) Troubles() Troubles { return p.troubles }

// Trouble says what goes wrong from now on.
func (p *Phones) Trouble(t Troubles) { p.troubles = t }

// Add gives a user a phone.
func (p *Phones) Add(platform Platform, name string) (*Phone, error) {
	index := slices.Index([]Platform{Messenger, Instagram, WhatsApp}, platform)
	name = strings.TrimSpace(name)
	switch {
	case index < 0:
		return nil, fmt.Errorf("platform %q: want messenger, instagram or whatsapp", platform)
	case name == "" || longer(name, nameMax) || !utf8.ValidString(name):
		return nil, fmt.Errorf("want a name of 1 to %d characters", nameMax)
	case len(p.all) == phonesMax:
		return nil, fmt.Errorf("there are %d users already", phonesMax)
	}
	who := newPerson(index, len(p.all)+1, 0)
	phone := &Phone{ID: who.id, Name: name, Platform: platform}
	p.connect(phone, index)
	p.change(phone)
	return phone, nil
}

// connect lets Meta know the owner of a phone.
func (p *Phones) connect(phone *Phone, index int) {
	phone.Channel = p.w.channels[index].ID
	p.w.byKey[phone.ID] = int32(len(p.w.people))
	p.w.people = append(p.w.people, person{channel: int32(index), id: phone.ID})
	p.all = append(p.all, phone)
}

func (p *Phones) change(phone *Phone) {
	p.changes++
	phone.Changed = p.changes
}

// Phone is the one of a user.
func (p *Phones) Phone(id string) (*Phone, error) {
	if i, ok := p.w.byKey[id]; ok {
		return p.all[i], nil
	}
	return nil, ErrNoPhone
}

func (f *Phone) bubble(id string) *Bubble {
	for _, b := range slices.Backward(f.Bubbles) {
		if b.ID == id {
			return b
		}
	}
	return nil
}

func (p *Phones) show(f *Phone, b *Bubble) {
	f.Bubbles = append(f.Bubbles, b)
	if len(f.Bubbles) > bubblesMax {
		f.Bubbles = slices.Delete(f.Bubbles, 0, len(f.Bubbles)-bubblesMax)
	}
	p.change(f)
}

// Do has a user do something.
func (p *Phones) Do(id string, a Act, now time.Time) (*Bubble, error) {
	phone, err := p.Phone(id)
	if err != nil {
		return nil, err
	}
	if err := a.check(phone); err != nil {
		return nil, err
	}
	at := p.w.tick(now)
	phone.Heard = now
	if a.React {
		about := phone.bubble(a.About)
		about.Reaction = a.Emoji
		p.change(phone)
		p.mail(&letterbox{phone: phone, body: p.reactionBody(phone, &a, at)}, at)
		return about, nil
	}
	b := &Bubble{ID: p.newID(phone), Mine: true, At: now, Status: bubbleSending, Act: &a}
	p.show(phone, b)
	p.mail(&letterbox{phone: phone, bubble: b, body: p.messageBody(phone, b, at)}, at)
	return b, nil
}

func (p *Phones) newID(f *Phone) string {
	p.sent++
	return string(appendID(nil, p.w.channels[p.at(f)].index, mix(p.cfg.Seed, p.sent), p.sent))
}

// at is the index of the channel that a user writes to, which is that of its platform.
func (p *Phones) at(f *Phone) int32 { return p.w.byID[f.Channel] }

func (a *Act) check(f *Phone) error {
	switch {
	case !utf8.ValidString(a.Text+a.Payload+a.Emoji) || longer(a.Text, scriptTextMax) || len(a.Payload) > payloadIn:
		return fmt.Errorf("want a text of at most %d characters and a payload of at most %d bytes", scriptTextMax, payloadIn)
	case a.About != "" && f.bubble(a.About) == nil:
		return ErrNoBubble
	case a.React:
		if a.About == "" || len(a.Emoji) > emojiMax {
			return errors.New("a reaction is to a message, and an emoji")
		}
		return nil
	case a.Media != nil:
		return a.Media.check(f)
	case a.Place != nil:
		return a.Place.check()
	case a.Tap != "":
		return a.checkTap(f)
	case strings.TrimSpace(a.Text) == "":
		return errors.New("there is nothing to send")
	}
	return nil
}

func (a *Act) checkTap(f *Phone) error {
	taps := []string{"quick_reply", "button"}
	if f.Platform == WhatsApp {
		taps = append(taps, "list", "template")
	}
	if !slices.Contains(taps, a.Tap) || a.Text == "" {
		return fmt.Errorf("tap %q: want one of %s, and the title of what is tapped", a.Tap, strings.Join(taps, ", "))
	}
	return nil
}

func (m *PhoneFile) check(f *Phone) error {
	kinds := []string{"image", "audio", "video", "document"}
	if f.Platform == WhatsApp {
		kinds = append(kinds, "sticker")
	}
	if !slices.Contains(kinds, m.Kind) || m.Name == "" || strings.ContainsAny(m.Name, "/\\?#") || longer(m.Name, nameMax) {
		return fmt.Errorf("want a file of kind %s, and its name", strings.Join(kinds, ", "))
	}
	return nil
}

func (l *PhonePlace) check() error {
	if !(l.Latitude >= -90 && l.Latitude <= 90 && l.Longitude >= -180 && l.Longitude <= 180) || longer(l.Name+l.Address, scriptTextMax) {
		return errors.New("want a latitude of -90 to 90 and a longitude of -180 to 180")
	}
	return nil
}

// Look says that a user looks at the phone: what is there is read, and the business
// is told.
func (p *Phones) Look(id string, now time.Time) error {
	phone, err := p.Phone(id)
	if err != nil {
		return err
	}
	at, seen := p.w.tick(now), false
	for _, b := range phone.Bubbles {
		if !b.Mine && b.Status != bubbleRead {
			b.Status, seen = bubbleRead, true
			p.inform(phone, b, read, at+int64(receiptAfter))
		}
	}
	if seen {
		p.change(phone)
	}
	return nil
}

// phonesSaved is what [Phones.Save] writes.
type phonesSaved struct {
	Seed   uint64   `json:"seed"`
	Sent   uint64   `json:"sent"`
	Phones []*Phone `json:"phones"`
}

// Save writes the users and what is on their screens.
func (p *Phones) Save() ([]byte, error) {
	b, err := json.Marshal(phonesSaved{p.cfg.Seed, p.sent, p.all})
	if err != nil {
		return nil, fmt.Errorf("save phones: %w", err)
	}
	return b, nil
}

// RestorePhones makes phones from what [Phones.Save] wrote. What users did and the
// receiver has not acknowledged is posted anew.
func RestorePhones(cfg PhonesConfig, saved []byte, now time.Time) (*Phones, error) {
	var s phonesSaved
	if err := json.Unmarshal(saved, &s); err != nil {
		return nil, fmt.Errorf("restore phones: %w", err)
	}
	cfg.Seed = s.Seed
	p := NewPhones(cfg, now)
	p.sent = s.Sent
	for _, f := range s.Phones {
		if !f.sound() {
			return nil, errors.New("restore phones: a phone that can't be")
		}
		if _, twice := p.w.byKey[f.ID]; twice {
			return nil, errors.New("restore phones: a phone that is there twice")
		}
		p.connect(f, slices.Index([]Platform{Messenger, Instagram, WhatsApp}, f.Platform))
		p.change(f)
	}
	p.resume(now)
	return p, nil
}

// sound reports whether a phone may have been saved by [Phones.Save].
func (f *Phone) sound() bool {
	if f == nil || !slices.Contains([]Platform{Messenger, Instagram, WhatsApp}, f.Platform) || !isID(f.ID) {
		return false
	}
	for _, b := range f.Bubbles {
		if b == nil || b.Mine != (b.Act != nil) || b.ID == "" || strings.ContainsFunc(b.ID, notOfID) {
			return false
		}
	}
	return true
}

// notOfID reports whether a character is in no id that appendID makes.
func notOfID(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.'
}

// resume posts what was left.
func (p *Phones) resume(now time.Time) {
	at := p.w.tick(now)
	for _, f := range p.all {
		f.Typing = time.Time{}
		for _, b := range f.Bubbles {
			if b.Mine && b.Status == bubbleSending {
				p.mail(&letterbox{phone: f, bubble: b, body: p.messageBody(f, b, at)}, at)
			}
		}
	}
}

// Waiting is how much of what users did is not acknowledged yet.
func (p *Phones) Waiting() (n int) {
	for _, f := range p.all {
		for _, b := range f.Bubbles {
			if b.Mine && b.Status == bubbleSending {
				n++
			}
		}
	}
	return n
}

// NextDue is when [Phones.Due] has something new to say, if nothing else happens.
func (p *Phones) NextDue() (time.Time, bool) {
	if p.outgoing.len() == 0 {
		return time.Time{}, false
	}
	return p.w.start.Add(time.Duration(p.outgoing.next())), true
}

// displayed is a name as Meta's profiles divide it.
func displayed(name string) (first, last string) {
	first, last, _ = strings.Cut(name, " ")
	return cmp.Or(first, name), last
}
