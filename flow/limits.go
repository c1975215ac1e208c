package flow

import "time"

// The limits of what a flow keeps of a conversation beside its state, and of what it
// is made of. A turn that passes one fails and names it.
const (
	// MaxOptions is the number of options that are offered at once: more than the
	// platforms show are written as numbered text.
	MaxOptions = 30
	// MaxTitleBytes is the size of an option's title, and of its description.
	MaxTitleBytes = 256
	// MaxPayloadCharacters is the size of an option's payload: what the narrowest
	// platform takes (a row of a WhatsApp list).
	MaxPayloadCharacters = 200
	// MaxHeld is the number of inputs that wait together, for quiet or for the answer
	// to a call. With it they are met at once.
	MaxHeld = 16
	// MaxHeldBytes is their size; one that would pass it is met at once with those
	// that wait.
	MaxHeldBytes = 16 << 10
	// MaxQuiet is the longest quiet that a policy may wait for.
	MaxQuiet = time.Minute
	// MaxBurst is how many times a policy's quiet the first of its inputs waits,
	// however busy it stays.
	MaxBurst = 8
	// MaxHold is how long inputs wait for the answer to a call.
	MaxHold = 15 * time.Minute
	// MaxFollows is the number of a conversation's follow-ups that are to come.
	MaxFollows = 16
	// MaxFollowBytes is the size of a follow-up, its template included.
	MaxFollowBytes = 4 << 10
	// MaxFields is the number of fields of a form.
	MaxFields = 64
	// MaxForms is the number of forms of a flow.
	MaxForms = 64
	// MaxTemplateBytes is the size of one text of a catalogue.
	MaxTemplateBytes = 16 << 10
	// MaxCatalogueBytes is the size of one file of a catalogue.
	MaxCatalogueBytes = 4 << 20
)

// What the platforms show of a menu, and take of a text. The numbers are those of
// docs/sending.md, where their sources are; a test holds what is made with them
// against the package that encodes it.
const (
	messengerText    = 2000 // characters
	messengerReplies = 13
	instagramText    = 1000 // bytes
	messengerTitle   = 20   // characters; on Instagram, too
	whatsAppText     = 4096 // characters, also above a list
	whatsAppButtons  = 3
	whatsAppButton   = 20   // characters of a title
	whatsAppBody     = 1024 // characters above buttons
	whatsAppRows     = 10
	whatsAppRow      = 24 // characters of a title
	whatsAppDetail   = 72 // characters of a description
	whatsAppLabel    = 20 // characters on the button that opens a list
)
