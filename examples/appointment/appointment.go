// Package appointment books an appointment and reminds of it, a day and an hour before:
// by a message if the contact has written within the last day, else by a template that
// Meta has approved. The contact may move or cancel it at any time.
package appointment

import (
	"fmt"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// booking is the conversation's state.
type booking struct {
	Day  string `json:"day,omitempty"`  // 2006-01-02
	Hour string `json:"hour,omitempty"` // 15:04
	Name string `json:"name,omitempty"`
	Made bool   `json:"made,omitempty"`
}

const (
	day  = "2006-01-02"
	hour = "15:04"
)

// at is the time of the appointment; the shop's clock shows UTC.
func (b *booking) at() time.Time {
	at, err := time.Parse(day+" "+hour, b.Day+" "+b.Hour)
	if err != nil {
		return time.Time{}
	}
	return at
}

func (b *booking) String() string { return b.at().Format("Monday, 2 January, 15:04") }

// The follow-ups.
const (
	dayBefore  = "day_before"
	hourBefore = "hour_before"
)

// Bot makes appointments.
func Bot() parley.Bot {
	return flow.Flow[booking]{
		Name: "appointment", Version: 1,
		Commands: []flow.Rule[booking]{
			flow.On(flow.Says("move", "change the time"), move),
			flow.On(flow.Says("cancel"), cancel),
		},
		Start: flow.Match(
			flow.On(flow.Any(flow.Timer(dayBefore), flow.Timer(hourBefore)), missed),
			flow.On(flow.Spoke(), start),
		),
		Forms: []flow.Form[booking]{{
			Name: "booking",
			Fields: []flow.Field[booking]{
				flow.Ask("day", "Which day suits you?", func(b *booking) *string { return &b.Day }, flow.Line(10)).Choices(days),
				flow.Ask("hour", "At what time?", func(b *booking) *string { return &b.Hour }, flow.Line(5)).Choices(hours).Label("time"),
				flow.Ask("name", "Under what name?", func(b *booking) *string { return &b.Name }, flow.Line(60)),
			},
			Confirm: func(t *flow.Turn[booking]) string {
				return fmt.Sprintf("%s, for %s. Is that right?", t.State, t.State.Name)
			},
			Done: book,
		}},
	}.Bot()
}

// days are the next three on which the shop is open.
func days(t *flow.Turn[booking]) []flow.Option {
	var options []flow.Option
	for at := t.Now().UTC().AddDate(0, 0, 1); len(options) < 3; at = at.AddDate(0, 0, 1) {
		if at.Weekday() == time.Saturday || at.Weekday() == time.Sunday {
			continue
		}
		options = append(options, flow.Option{Title: at.Format("Mon, 2 January"), Payload: at.Format(day)})
	}
	return options
}

func hours(*flow.Turn[booking]) []flow.Option {
	return flow.Titles("9:00", "10:00", "11:00", "14:00", "15:00", "16:00")
}

func start(t *flow.Turn[booking]) error {
	if !t.State.Made || t.State.at().Before(t.Now()) {
		t.State.Day, t.State.Hour, t.State.Made = "", "", false
		t.State.Name = t.Attribute("name")
		t.Fill("booking")
		return nil
	}
	t.Offer(fmt.Sprintf("Your appointment is on %s.", t.State), flow.Titles("Move", "Cancel")...)
	return nil
}

func book(t *flow.Turn[booking]) error {
	t.State.Made = true
	t.SetAttribute("name", t.State.Name)
	t.Sayf("See you on %s, %s.", t.State, t.State.Name)
	remind(t, dayBefore, 24*time.Hour)
	remind(t, hourBefore, time.Hour)
	return nil
}

// remind follows up a while before the appointment, unless that is over.
func remind(t *flow.Turn[booking], name string, before time.Duration) {
	in := t.State.at().Sub(t.Now()) - before
	if in <= 0 {
		return
	}
	t.Follow(flow.Follow{
		Name: name, In: in,
		Text: fmt.Sprintf("A reminder: your appointment is on %s.", t.State),
		Template: &parley.Template{
			Name: "appointment_reminder", Language: "en", Category: parley.Utility,
			Components: []parley.Component{{Type: "body", Parameters: []parley.Parameter{{Text: t.State.Name}, {Text: t.State.String()}}}},
		},
	})
}

// missed is a reminder that no platform took: somebody has to call.
func missed(t *flow.Turn[booking]) error {
	t.Tag("call_about_appointment")
	return nil
}

func forget(t *flow.Turn[booking]) {
	t.CancelFollow(dayBefore)
	t.CancelFollow(hourBefore)
	t.Leave()
	t.State.Day, t.State.Hour, t.State.Made = "", "", false
}

func move(t *flow.Turn[booking]) error {
	forget(t)
	t.Fill("booking")
	return nil
}

func cancel(t *flow.Turn[booking]) error {
	forget(t)
	t.Say("All right, there is no appointment. Write again if you want one.")
	return nil
}
