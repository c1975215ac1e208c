package meta

import (
	"fmt"
	"unicode/utf8"

	"github.com/parleychat/parley"
)

// What the platforms take, from their pages on sending (Messenger: Send API,
// templates, quick replies, attachment upload, May 2026; Instagram: sending a
// message, July 2026; WhatsApp: messages, interactive messages and media,
// November 2025 to June 2026). The row count of a WhatsApp list and the lengths
// of a section's title and of a flow's button are not on the pages that were
// read; they are as generally known.
const (
	MaxMessengerText         = 2000 // characters
	MaxMessengerQuickReplies = 13
	MaxMessengerTitle        = 20   // characters of a quick reply or a button
	MaxMessengerPayload      = 1000 // characters
	MaxMessengerButtonText   = 640  // characters above buttons
	MaxMessengerButtons      = 3    // under a text or a card
	MaxMessengerCards        = 10
	MaxMessengerCardText     = 80 // characters of a title or a subtitle

	MaxInstagramText = 1000 // bytes of UTF-8

	MaxWhatsAppText        = 4096 // characters
	MaxWhatsAppButtons     = 3
	MaxWhatsAppButtonBody  = 1024 // characters above buttons, a URL's button, a flow, a request for a location
	MaxWhatsAppButton      = 20   // characters of a title
	MaxWhatsAppButtonID    = 256  // characters
	MaxWhatsAppRows        = 10   // of a list
	MaxWhatsAppListBody    = 4096 // characters
	MaxWhatsAppRow         = 24   // characters of a title
	MaxWhatsAppRowID       = 200  // characters
	MaxWhatsAppDescription = 72   // characters, of a row
	MaxWhatsAppSection     = 24   // characters of a title
	MaxWhatsAppListLabel   = 20   // characters
	MaxWhatsAppFlowLabel   = 30   // characters
	MaxWhatsAppHeader      = 60   // characters
	MaxWhatsAppFooter      = 60   // characters
	MaxWhatsAppCaption     = 1024 // characters
)

// How large uploaded files may be, in bytes.
const (
	MaxMessengerImageBytes   = 8 << 20 // also on Instagram
	MaxMessengerFileBytes    = 25 << 20
	MaxWhatsAppImageBytes    = 5 << 20
	MaxWhatsAppAVBytes       = 16 << 20 // audio and video
	MaxWhatsAppDocumentBytes = 100 << 20
	MaxWhatsAppStickerBytes  = 500 << 10 // of one that moves; 100 KiB of one that doesn't
)

// A LimitError is a message that the platform would refuse. It names the limit,
// never the message.
type LimitError struct {
	Limit string // the name of the const
	Have  int
	Max   int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d: at most %d (%s)", e.Have, e.Max, e.Limit)
}

// An UnsupportedError is a message that the platform has no form for.
type UnsupportedError struct {
	Kind parley.ChannelKind
	What string // what can't be shown
}

func (e *UnsupportedError) Error() string { return fmt.Sprintf("no %s on %s", e.What, e.Kind) }

// limit is something that is to be held to one.
type limit struct {
	name      string
	have, max int
}

// within is about the first of limits that is passed.
func within(limits ...limit) error {
	for _, l := range limits {
		if l.have > l.max {
			return &LimitError{Limit: l.name, Have: l.have, Max: l.max}
		}
	}
	return nil
}

func characters(s string) int { return utf8.RuneCountInString(s) }
