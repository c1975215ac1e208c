package metatest

// command is what a message tells the bot to do.
type command uint8

const (
	say command = iota
	remind
	forget
)

// form is how a message carries its command.
type form uint8

const (
	asText     form = iota
	asReply         // Messenger and Instagram: quick reply; WhatsApp: button reply
	asPostback      // Messenger and Instagram: a button; WhatsApp: button reply
)

// record is all that is kept of one user message: its schedule, what became of
// its deliveries, and the replies that name it. Times are nanoseconds after the
// start; steps number the calls to World and give the order of what happened.
type record struct {
	due     int64 // when the user wrote it
	posted  int64 // when the first post of it that may have arrived was handed out
	took    int64 // when the post that was the first to be acknowledged was handed out
	ackedAt int64 // when it was first acknowledged
	said    int64 // when its reply was first accepted
	written int64 // when the answer to its last accepted reply was, or will be, written
	told    int64 // when a receipt of its reply was first acknowledged; 0 = not yet

	postedStep uint32 // 0 = not posted
	ackedStep  uint32 // 0 = not acknowledged
	saidStep   uint32 // 0 = no reply accepted

	n         uint32 // N of the first reply
	arg       uint32 // milliseconds of a reminder, or the reminder to forget
	timer     int32  // index of a reminder's timer
	sightings uint16 // posts of it that may have arrived
	command   command
	form      form
	doubtful  bool // the last accepted reply may be sent again with good reason
	heard     bool // a reply was accepted, of an effect that the store may have lost
	unsure    bool // acknowledged, and the store may have lost it
	spooled   bool // acknowledged by a node that may have kept it to itself for a while
	last      bool // written after the last fault
}

func (r *record) acked() bool { return r.ackedStep != 0 }

func (r *record) answered() bool { return r.saidStep != 0 }

// timer is what is kept of a reminder beside its message.
type timer struct {
	message   int32 // index of its record
	forgotten int32 // index of the record that cancels it; -1 = none
	rung      int64 // when its ring was first accepted
	written   int64 // as in record
	told      int64 // as in record
	rungStep  uint32
	cancelled bool // the reply to forget was accepted, and its N is later
	open      bool // a ring is owed
	doubtful  bool
	heard     bool // as in record
}

func (t *timer) hasRung() bool { return t.rungStep != 0 }
