package flow_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

type table struct {
	Guests int    `json:"guests,omitempty"`
	Size   string `json:"size,omitempty"`
	Name   string `json:"name,omitempty"`
	Note   string `json:"note,omitempty"`
	Dogs   bool   `json:"dogs,omitempty"`
	Breed  string `json:"breed,omitempty"`
}

func guests() flow.Field[table] {
	return flow.Ask("guests", "How many?", func(b *table) *int { return &b.Guests }, flow.Number(0, 8))
}

func size() flow.Field[table] {
	return flow.Ask("size", "What size?", func(b *table) *string { return &b.Size }, flow.OneOf("Small", "Large", "Extra large"))
}

func name() flow.Field[table] {
	return flow.Ask("name", "Your name?", func(b *table) *string { return &b.Name }, flow.Line(20))
}

func note() flow.Field[table] {
	return flow.Ask("note", "A note?", func(b *table) *string { return &b.Note }, flow.Line(20)).Optional()
}

func booked(t *flow.Turn[table]) error {
	t.Say(fmt.Sprintf("booked %+v", *t.State))
	t.End()
	return nil
}

func summary(t *flow.Turn[table]) string { return fmt.Sprintf("%+v?", *t.State) }

func booking(f flow.Form[table], more ...func(f *flow.Flow[table])) parley.Bot {
	f.Name = "booking"
	if f.Done == nil {
		f.Done = booked
	}
	b := flow.Flow[table]{Name: "test", Version: 1, Start: flow.Fill[table]("booking"), Forms: []flow.Form[table]{f}}
	for _, m := range more {
		m(&b)
	}
	return b.Bot()
}

func fields(f ...flow.Field[table]) flow.Form[table] { return flow.Form[table]{Fields: f} }

func TestForm(t *testing.T) {
	t.Parallel()
	p := play(t, booking(fields(guests(), size(), name(), note())), `
		> hello
		< How many?
		> 4 people
		< What size? [Small] [Large] [Extra large]
		> [Large]
		< Your name?
		> Ann
		< A note?`)
	// What the flow itself remembers stands beside the state.
	want := `{"$flow":{"form":{"form":"booking","field":"note"}},"$state":{"guests":4,"size":"Large","name":"Ann"}}`
	if got := p.state(); got != want {
		t.Errorf("state %s, want %s", got, want)
	}
	p.plays(`
		> skip
		< booked {Guests:4 Size:Large Name:Ann Note: Dogs:false Breed:}
		> again
		< How many?`)
}

// Zero and "no" are answers, too.
func TestFormZeroIsAnAnswer(t *testing.T) {
	t.Parallel()
	dogs := flow.Ask("dogs", "Dogs?", func(b *table) *bool { return &b.Dogs }, flow.YesNo())
	breed := flow.Ask("breed", "Which breed?", func(b *table) *string { return &b.Breed }, flow.Line(20)).If(func(b *table) bool { return b.Dogs })
	b := booking(fields(guests(), dogs, breed))
	play(t, b, `
		> hello
		< How many?
		> 0
		< Dogs? [Yes] [No]
		> no, thanks
		< booked {Guests:0 Size: Name: Note: Dogs:false Breed:}`)
	play(t, b, `
		> hello
		< How many?
		> 1
		< Dogs? [Yes] [No]
		> [Yes]
		< Which breed?
		> Beagle
		< booked {Guests:1 Size: Name: Note: Dogs:true Breed:Beagle}`)
}

// What isn't an answer is asked for once more, and not for ever.
func TestFormRefuses(t *testing.T) {
	t.Parallel()
	even := guests().Check(func(b *table) error {
		if b.Guests%2 != 0 {
			return flow.Retry("An even number, please, not {n}.", flow.Args{"n": b.Guests})
		}
		return nil
	})
	b := booking(fields(even, size(), name()))
	p := play(t, b, `
		> hello
		< How many?
		> 9
		< Please send a number from 0 to 8. / How many?
		> 3
		< An even number, please, not 3. / How many?
		> 4
		< What size? [Small] [Large] [Extra large]
		> small or large?
		< Sorry, I did not understand that. / What size? [Small] [Large] [Extra large]
		> hm
		< Sorry, I did not understand that. / What size? [Small] [Large] [Extra large]
		> hm
		< Let us leave it at that for now.
		> hello
		< What size? [Small] [Large] [Extra large]
		> an extra large one
		< Your name?
		> a name of more than twenty characters
		< That is too long: at most 20 characters, please. / Your name?`)
	// Neither a picture nor a button of something else is a name.
	p.happens(parley.Message{Attachments: []parley.Attachment{{Type: "image", ID: "1"}}})
	p.happens(parley.Postback{Title: "Menu", Payload: "menu"})
	p.plays("> Ann\n< booked {Guests:4 Size:Extra large Name:Ann Note: Dogs:false Breed:}")
}

func TestFormExits(t *testing.T) {
	t.Parallel()
	f := fields(guests())
	f.Attempts = 1
	f.GaveUp = func(t *flow.Turn[table]) error { t.Say("gave up"); return nil }
	f.Cancelled = func(t *flow.Turn[table]) error { t.Say("cancelled " + t.Filling()); t.End(); return nil }
	play(t, booking(f), `
		> hello
		< How many?
		> x
		< gave up
		> hello
		< How many?
		> Cancel!
		< cancelled`)
}

// "back" and "change" lead to another question, and on from there to what is missing.
func TestFormCorrections(t *testing.T) {
	t.Parallel()
	f := fields(guests().Label("number of guests"), size().Anytime(), name())
	f.Confirm = summary
	play(t, booking(f), `
		> hello
		< How many?
		> back
		< How many?
		> 4
		< What size? [Small] [Large] [Extra large]
		> back
		< How many?
		> 5
		< What size? [Small] [Large] [Extra large]
		> large
		< Your name?
		> change the number of guests
		< How many?
		> 6
		< Your name?
		# A name that looks like a size is a name.
		> Small
		< {Guests:6 Size:Large Name:Small Note: Dogs:false Breed:}? {Yes} {Change number of guests} {Change size} {Change name}
		> yes, but make it small
		< {Guests:6 Size:Small Name:Small Note: Dogs:false Breed:}? {Yes} {Change number of guests} {Change size} {Change name}
		> 4
		< Sorry, I did not understand that. / {Guests:6 Size:Small Name:Small Note: Dogs:false Breed:}? {Yes} {Change number of guests} {Change size} {Change name}
		> [Change name]
		< Your name?
		> Ann
		< {Guests:6 Size:Small Name:Ann Note: Dogs:false Breed:}? {Yes} {Change number of guests} {Change size} {Change name}
		> back
		< Your name?
		> Bea
		< {Guests:6 Size:Small Name:Bea Note: Dogs:false Breed:}? {Yes} {Change number of guests} {Change size} {Change name}
		> okay
		< booked {Guests:6 Size:Small Name:Bea Note: Dogs:false Breed:}`)
}

// One message fills in several fields, also the one that begins the form.
func TestFormAnytime(t *testing.T) {
	t.Parallel()
	b := booking(fields(size().Anytime(), name()))
	play(t, b, `
		> a LARGE one, please
		< Your name?
		> Ann
		< booked {Guests:0 Size:Large Name:Ann Note: Dogs:false Breed:}`)
}

// A behaviour under the form sees what isn't the form's.
func TestFormLetsThrough(t *testing.T) {
	t.Parallel()
	b := booking(fields(guests()), func(f *flow.Flow[table]) {
		f.Commands = []flow.Rule[table]{flow.On(flow.Text("hours"), func(t *flow.Turn[table]) error {
			t.Say("9 to 5")
			t.AskAgain()
			return nil
		})}
		f.Start = flow.Match(
			flow.On(flow.Payload("old"), flow.Reply[table]("an old button")),
			flow.On(flow.Reaction(), flow.Reply[table]("a reaction")),
			flow.On(flow.Spoke(), flow.Fill[table]("booking")))
	})
	play(t, b, `
		> hi
		< How many?
		* old
		< an old button
		~
		< a reaction
		> hours
		< 9 to 5
		< How many?
		> 2
		< booked {Guests:2 Size: Name: Note: Dogs:false Breed:}`)
}

// Who is in the middle of a form when a new version of it comes goes on with what is
// missing there.
func TestFormOfANewVersion(t *testing.T) {
	t.Parallel()
	old := booking(fields(guests(), size(), note()))
	p := play(t, old, `
		> hi
		< How many?
		> 2
		< What size? [Small] [Large] [Extra large]`)
	p.bot = booking(fields(guests(), name(), note()))
	p.plays(`
		> Large
		< Your name?
		> Ann
		< A note?`)
	p.bot = booking(fields(guests(), name()))
	p.plays(`
		> what
		< booked {Guests:2 Size: Name:Ann Note: Dogs:false Breed:}`)

	p = play(t, old, "> hi\n< How many?")
	p.bot = flow.Flow[table]{Name: "test", Version: 1, Start: flow.Reply[table]("no forms any more")}.Bot()
	p.plays("> 2\n< no forms any more")
	if got := p.state(); got != "{}" {
		t.Errorf("state %s: something is left of the form", got)
	}
}

// What was offered before can't be chosen once it isn't offered any more.
func TestFormChoicesOfNow(t *testing.T) {
	t.Parallel()
	slot := flow.Ask("slot", "When?", func(b *table) *string { return &b.Note }, flow.Line(20)).
		Choices(func(t *flow.Turn[table]) []flow.Option {
			if t.Now().Hour() < 13 {
				return flow.Titles("13:00", "15:00")
			}
			return flow.Titles("15:00")
		})
	play(t, booking(fields(slot)), `
		> hi
		< When? [13:00] [15:00]
		> at 14:00
		< Sorry, I did not understand that. / When? [13:00] [15:00]
		! 2h
		> [13:00]
		< Sorry, I did not understand that. / When? [15:00]
		> [15:00]
		< booked {Guests:0 Size: Name: Note:15:00 Dogs:false Breed:}`)
}

func TestFormReminds(t *testing.T) {
	t.Parallel()
	f := fields(guests(), name())
	f.Remind = flow.Follow{In: time.Hour, Text: "Still there?"}
	play(t, booking(f), `
		> hi
		< How many?
		! 59m
		> 2
		< Your name?
		! 59m
		! 1m
		< Still there?
		< Your name?
		! 5h
		> Ann
		< booked {Guests:2 Size: Name:Ann Note: Dogs:false Breed:}
		! 5h`)
}

func TestFormLoops(t *testing.T) {
	t.Parallel()
	f := fields(guests())
	f.Done = flow.Fill[table]("booking")
	play(t, booking(f), `
		> hi
		< How many?
		> 2
		x error: fill "booking": 9 forms begun in one turn: does Done begin one that is done?`)
	f.Done = func(t *flow.Turn[table]) error { t.End(); t.Fill("booking"); return nil }
	play(t, booking(f), `
		> hi
		< How many?
		> 2
		x error: fill "booking" after End: nothing of it would be remembered`)
	play(t, booking(f, func(f *flow.Flow[table]) { f.Start = flow.Fill[table]("other") }), `
		> hi
		x error: fill "other": not a form of this flow`)
}

// Whatever is said, a field holds only what its kind allows.
func TestKinds(t *testing.T) {
	t.Parallel()
	number, email, phone, line := flow.Number(1, 8), flow.Email(), flow.Phone(), flow.Line(5)
	parse := map[string]func(a flow.Answer) (string, error){
		"number": func(a flow.Answer) (string, error) { n, err := number.Parse(a); return strconv.Itoa(n), err },
		"email":  email.Parse, "phone": phone.Parse, "line": line.Parse,
		"one of": flow.OneOf("Large", "Extra large", "Dollars").Parse,
		"read": flow.Read(func(text string) (string, error) {
			if text != "ok" {
				return "", errors.New("internal details")
			}
			return text, nil
		}).Parse,
		"file": flow.File(parley.Image).Parse,
	}
	for _, c := range []struct{ kind, text, want string }{
		{"number", "4", "4"},
		{"number", "we are 4!", "4"},
		{"number", "0", ""},
		{"number", "9", ""},
		{"number", "-3", ""},
		{"number", "3.5", ""},
		{"number", "2 or 3", ""},
		{"number", "2-3", ""},
		{"number", "4x", ""},
		{"number", "", ""},
		{"number", "99999999999999999999", ""},
		{"number", "٤", ""},
		{"number", "+4", "4"},
		{"number", "1,5", ""},
		{"email", " a@example.com ", "a@example.com"},
		{"email", "a@example", ""},
		{"email", "Ann <a@example.com>", ""},
		{"email", "a@example.com b@example.com", ""},
		{"email", "a b@example.com", ""},
		{"email", "", ""},
		{"email", strings.Repeat("a", 250) + "@example.com", ""},
		{"email", `"a b"@example.com`, ""},
		{"email", "a@.", ""},
		{"phone", "+49 151 / 23-45.678", "+491512345678"},
		{"phone", "12345", ""},
		{"phone", "call me", ""},
		{"phone", "1234567890123456", ""},
		{"phone", "123+456", ""},
		{"phone", "(030) 123456", "030123456"},
		{"line", "  abc ", "abc"},
		{"line", "äöüßé", "äöüßé"},
		{"line", "abcdef", ""},
		{"line", " \n ", ""},
		{"line", "\u200b", ""},
		{"line", "\xff", ""},
		{"one of", "LARGE", "Large"},
		{"one of", "extra large please", "Extra large"},
		{"one of", "large or extra large", "Extra large"},
		{"one of", "enlarge", ""},
		{"one of", "dollars or large", ""},
		{"one of", "", ""},
		{"read", "ok", "ok"},
		{"read", "no", ""},
		{"file", "x", ""},
	} {
		got, err := parse[c.kind](flow.Answer{Text: c.text, Input: parley.Message{Text: c.text}})
		if (err != nil) != (c.want == "") || err == nil && got != c.want {
			t.Errorf("%s of %q: %q, %v, want %q", c.kind, c.text, got, err, c.want)
		}
	}
}

// What was pressed is no text, and a file is what it is.
func TestKindsOfOtherInputs(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]flow.Kind[string]{"line": flow.Line(9), "email": flow.Email(), "phone": flow.Phone()} {
		if got, err := kind.Parse(flow.Answer{Text: "a@example.com", Payload: "buy"}); err == nil {
			t.Errorf("%s took a button: %q", name, got)
		}
	}
	picture := parley.Message{Attachments: []parley.Attachment{{Type: "image", ID: "4711"}}}
	if got, err := flow.File(parley.Image).Parse(flow.Answer{Input: picture}); got != "4711" || err != nil {
		t.Errorf("file: %q, %v", got, err)
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	type trip struct{ To parley.Location }
	b := flow.Flow[trip]{Name: "test", Start: flow.Fill[trip]("trip"), Forms: []flow.Form[trip]{{
		Name:   "trip",
		Fields: []flow.Field[trip]{flow.Ask("to", "Where to?", func(t *trip) *parley.Location { return &t.To }, flow.Place())},
		Done:   func(t *flow.Turn[trip]) error { t.Sayf("to %v", t.State.To.Latitude); return nil },
	}}}.Bot()
	playOn(t, b, parley.Messenger, "> hi\n< Where to?")
	p := play(t, b, "> hi\n< Where to? (location?)\n> home\n< Sorry, I did not understand that. / Where to? (location?)")
	p.out.Reset()
	p.happens(parley.Message{Location: &parley.Location{Latitude: 52.5}})
	if got := p.out.String(); got != "< to 52.5\n" {
		t.Error(got)
	}
}

// An answer that a check refused is not there afterwards.
func TestFormForgetsWhatItRefused(t *testing.T) {
	t.Parallel()
	even := guests().Check(func(b *table) error {
		if b.Guests%2 != 0 {
			return flow.Retry("odd")
		}
		return nil
	})
	p := play(t, booking(fields(even, size())), `
		> hello
		< How many?
		> 3
		< odd / How many?`)
	if got, want := p.state(), `{"$flow":{"form":{"form":"booking","field":"guests","tries":1}},"$state":{}}`; got != want {
		t.Errorf("state %s, want %s", got, want)
	}
	p.plays(`
		> change size
		< What size? [Small] [Large] [Extra large]
		> [Small]
		< How many?`)
}

// Beginning the form that is being filled in goes on with it.
func TestFormBegunAgain(t *testing.T) {
	t.Parallel()
	play(t, booking(fields(note(), guests())), `
		> hi
		< A note?
		> skip
		< How many?
		* old
		< How many?
		> 2
		< booked {Guests:2 Size: Name: Note: Dogs:false Breed:}`)
}
