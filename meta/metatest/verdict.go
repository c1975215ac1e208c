package metatest

import (
	"fmt"
	"slices"
)

// problemsMax bounds the problems that a verdict spells out.
const problemsMax = 100

// FaultCounts are the troubles that the Graph API made by configuration.
type FaultCounts struct {
	Transient int `json:"transient"`
	Throttled int `json:"throttled"`
	Withheld  int `json:"withheld"`
	Slow      int `json:"slow"`
}

// RepeatCounts are numbers of sends by platform.
type RepeatCounts struct {
	Messenger int `json:"messenger"`
	Instagram int `json:"instagram"`
	WhatsApp  int `json:"whatsapp"`
}

func (c *RepeatCounts) add(index int) {
	*[platforms]*int{&c.Messenger, &c.Instagram, &c.WhatsApp}[index]++
}

// Verdict is what the simulator found, from its own record only. An
// acknowledged message without a reply is counted once: as lost, unanswered or
// pending. A reply is "first accepted" when the Graph API first took it.
type Verdict struct {
	// Messages of the users.
	Offered int `json:"offered"` // written
	Acked   int `json:"acked"`   // delivered with a 200
	Unacked int `json:"unacked"` // not so
	Effects int `json:"effects"` // acknowledged, and took effect: a reply names it, or a later N covers it

	Lost           int `json:"lost"`            // acknowledged, without effect, though a later one of the same user has
	Pending        int `json:"pending"`         // acknowledged, without effect, and none later has
	EffectsDoubled int `json:"effects_doubled"` // one K with two N, two K with one N, or an N that counts more commands than were posted
	Reordered      int `json:"reordered"`       // took effect before another that had been acknowledged before it was first posted
	Unanswered     int `json:"unanswered"`      // took effect (a later N covers it), and its reply never came
	LostByStore    int `json:"lost_by_store"`   // acknowledged, and lost with what the store itself lost; no breach
	Silent         int `json:"silent"`          // conversations whose last message, after the last fault, wasn't answered in time

	// What could have gone wrong.
	Redelivered int `json:"redelivered"` // took effect, and were delivered more than once
	Ordered     int `json:"ordered"`     // took effect, and another had been acknowledged before they were first posted
	LastAsked   int `json:"last_asked"`  // conversations that wrote once more after the last fault

	// Sends.
	Sends                    int `json:"sends"`                      // accepted
	SendsRefused             int `json:"sends_refused"`              // wrong by Meta's rules: shape, token, limits, addressee
	SendsRepeated            int `json:"sends_repeated"`             // same user, K and N, or same ring, accepted again
	SendsRepeatedUnexplained int `json:"sends_repeated_unexplained"` // replies of these, whose last answer was neither withheld, nor slow, nor in flight at a kill; rings: timers_doubled
	SendsRepeatedTold        int `json:"sends_repeated_told"`        // of the repeated: an echo or a status had told before that the first was sent; no breach, as it may lie in a spool
	SendsOutOfOrder          int `json:"sends_out_of_order"`         // replies of one user first accepted in another order than their N
	Strays                   int `json:"strays"`                     // sends that answer nothing, or are to nobody
	Undelivered              int `json:"undelivered"`                // accepted, but never delivered: a BSUID in "to"
	Notices                  int `json:"notices"`                    // typing and read notices

	// SendsRepeatedOn are the repeated ones by platform. Instagram offers nothing by
	// which a sender can find out.
	SendsRepeatedOn RepeatCounts `json:"sends_repeated_on"`

	// Reminders.
	TimersSet         int    `json:"timers_set"`          // reminders that took effect
	TimersRung        int    `json:"timers_rung"`         // rings first accepted
	TimersEarly       int    `json:"timers_early"`        // before the delay after the first post that may have arrived
	TimersDoubled     int    `json:"timers_doubled"`      // rang again without a reason
	TimersAfterCancel int    `json:"timers_after_cancel"` // first rang after the reply that cancelled them
	TimersMissing     int    `json:"timers_missing"`      // due, not cancelled, and never rang
	TimersLateMS      Millis `json:"timers_late_ms"`      // after the delay from the post that was acknowledged

	// The course of things.
	Posts        int         `json:"posts"`         // webhooks written, with all attempts
	PostsRetried int         `json:"posts_retried"` // attempts that were not answered with 200
	Duplicates   int         `json:"duplicates"`    // updates delivered once more on purpose
	Receipts     int         `json:"receipts"`      // echoes and statuses
	Faults       FaultCounts `json:"faults"`
	Kills        int         `json:"kills"`
	LagMS        float64     `json:"lag_ms"`     // 99 % of posts were handed out at most so late after they were due
	LagMaxMS     float64     `json:"lag_max_ms"` // all of them
	AckMS        Millis      `json:"ack_ms"`     // from when a post was due to its 200, failed attempts included

	AnswerMS Millis `json:"answer_ms"` // of attempts that were answered with 200: from when they were written

	Broken []string `json:"broken,omitempty"` // the first problems, each with its user and K
}

// breaches names the counters that must be zero.
func (v *Verdict) breaches() []breach {
	return []breach{
		{"unacked", v.Unacked},
		{"lost", v.Lost},
		{"pending", v.Pending},
		{"effects_doubled", v.EffectsDoubled},
		{"reordered", v.Reordered},
		{"unanswered", v.Unanswered},
		{"silent", v.Silent},
		{"sends_repeated_unexplained", v.SendsRepeatedUnexplained},
		{"sends_out_of_order", v.SendsOutOfOrder},
		{"strays", v.Strays},
		{"undelivered", v.Undelivered},
		{"timers_early", v.TimersEarly},
		{"timers_doubled", v.TimersDoubled},
		{"timers_after_cancel", v.TimersAfterCancel},
		{"timers_missing", v.TimersMissing},
	}
}

type breach struct {
	name  string
	count int
}

// Clean reports whether no promise was broken: every message was acknowledged,
// took effect once and in order, and was answered once and in order; every
// reminder rang once, in time or not at all.
func (v Verdict) Clean() bool {
	return !slices.ContainsFunc(v.breaches(), func(b breach) bool { return b.count != 0 })
}

// Problems says what was broken: first each counter that is not zero, then the
// cases, at most 100 of them, each with its user and number. No message text.
func (v Verdict) Problems() []string {
	var all []string
	for _, b := range v.breaches() {
		if b.count != 0 {
			all = append(all, fmt.Sprintf("%s: %d", b.name, b.count))
		}
	}
	return append(all, v.Broken...)
}

func (v *Verdict) problem(what string) {
	if len(v.Broken) < problemsMax {
		v.Broken = append(v.Broken, what)
	}
}

func (v *Verdict) strayed(what string) {
	v.Strays++
	v.problem("stray send: " + what)
}

func (v *Verdict) undelivered(w *World, user int32) {
	v.Undelivered++
	v.problem("accepted and never delivered, a business-scoped id in \"to\": " + w.name(user))
}
