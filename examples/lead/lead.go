// Package lead asks those who come by an ad for what the sales department wants to
// know, and hands it to their system.
package lead

import (
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// Service is the name under which the operator configures the sales system.
const Service = "crm"

// lead is the conversation's state, and what the sales system is sent.
type lead struct {
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	Phone   string `json:"phone,omitempty"`
	For     string `json:"for,omitempty"` // business, home
	Staff   int    `json:"staff,omitempty"`
	Consent bool   `json:"consent,omitempty"`
	Ref     string `json:"ref,omitempty"` // the ad by which they came
}

// Bot collects leads.
func Bot() parley.Bot {
	return flow.Flow[lead]{
		Name: "lead", Version: 1,
		Start: flow.Match(
			flow.OnAnswer("save", saved, failed),
			flow.On(flow.Referral(), arrive),
			flow.On(flow.Spoke(), begin),
		),
		Phrases: flow.Phrases{Skip: []string{"skip", "no", "later"}},
		Forms: []flow.Form[lead]{{
			Name: "lead", Fields: fields(), Done: save,
			Cancelled: func(t *flow.Turn[lead]) error {
				t.Say("All right. We keep nothing of it.")
				t.End()
				return nil
			},
			Remind: flow.Follow{In: 2 * time.Hour, Text: "There is only a little missing for your offer."},
		}},
	}.Bot()
}

func fields() []flow.Field[lead] {
	return []flow.Field[lead]{
		flow.Ask("consent", "May we keep your data to make you an offer?", func(l *lead) *bool { return &l.Consent }, flow.YesNo()).Check(agreed),
		flow.Ask("name", "What is your name?", func(l *lead) *string { return &l.Name }, flow.Line(80)),
		flow.Ask("email", "And your e-mail address?", func(l *lead) *string { return &l.Email }, flow.Email()).Label("e-mail"),
		flow.Ask("phone", "Your telephone number? You may skip this.", func(l *lead) *string { return &l.Phone }, flow.Phone()).Optional(),
		flow.Ask("for", "Is it for your business or for your home?", func(l *lead) *string { return &l.For }, flow.Choice(
			flow.Option{Title: "Business", Payload: "business"}, flow.Option{Title: "Home", Payload: "home"})),
		flow.Ask("staff", "How many people work there?", func(l *lead) *int { return &l.Staff }, flow.Number(1, 100_000)).
			If(func(l *lead) bool { return l.For == "business" }),
	}
}

// agreed takes no for an answer, but not for a field: without consent nothing is kept.
func agreed(l *lead) error {
	if !l.Consent {
		return flow.Retry(`Then we can't make you an offer. Write "cancel" to leave.`)
	}
	return nil
}

func arrive(t *flow.Turn[lead]) error {
	t.State.Ref = t.Found(0)
	return begin(t)
}

func begin(t *flow.Turn[lead]) error {
	if t.Tagged("lead") {
		t.Say("We have your request, and will write to you soon.")
		return nil
	}
	t.Say("Hello! Some questions, and you get an offer.")
	t.Fill("lead")
	return nil
}

// save hands the lead on.
func save(t *flow.Turn[lead]) error {
	t.SetAttribute("name", t.State.Name)
	t.SetAttribute("email", t.State.Email)
	t.Tag("lead")
	t.CallWith(parley.Call{Name: "save", Service: Service, Path: "/leads", Within: time.Hour}, t.State)
	return nil
}

func saved(t *flow.Turn[lead], made struct{ ID string }) error {
	t.SetAttribute("lead", made.ID)
	t.Say("Thank you, " + t.State.Name + "! We will write to " + t.State.Email + ".")
	t.End()
	return nil
}

// failed leaves it to a person: the tag and the attributes say whom.
func failed(t *flow.Turn[lead], c parley.Called) error {
	t.Tag("lead_not_saved")
	t.SetAttribute("lead_failure", string(c.Failure))
	t.Say("Thank you, " + t.State.Name + "! Somebody will write to you.")
	t.End()
	return nil
}
