package flow_test

import (
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// tableV1 is the state of the version before.
type tableV1 struct {
	People string `json:"people,omitempty"`
	Size   string `json:"size,omitempty"`
}

func bookingV1() parley.Bot {
	return flow.Flow[tableV1]{
		Name: "test", Version: 1, Start: flow.Fill[tableV1]("booking"), Policy: flow.Collect(time.Second),
		Named: map[string]flow.Behavior[tableV1]{"gone": {Handle: flow.Fill[tableV1]("booking")}},
		Commands: []flow.Rule[tableV1]{flow.On(flow.Text("go"), func(t *flow.Turn[tableV1]) error {
			t.Become("gone")
			return nil
		})},
		Forms: []flow.Form[tableV1]{{
			Name: "booking", Done: func(t *flow.Turn[tableV1]) error { t.Say("done by version 1"); t.End(); return nil },
			Fields: []flow.Field[tableV1]{
				flow.Ask("guests", "How many?", func(b *tableV1) *string { return &b.People }, flow.Line(9)),
				flow.Ask("size", "What size?", func(b *tableV1) *string { return &b.Size }, flow.OneOf("Small", "Large", "Extra large")),
			},
		}},
	}.Bot()
}

func bookingV2(more ...func(f *flow.Flow[table])) parley.Bot {
	return booking(fields(guests(), size(), name()), append(more, func(f *flow.Flow[table]) {
		f.Version, f.Policy = 2, flow.Collect(time.Second)
		f.Migrations = map[int]parley.Migration{1: parley.Migrate(func(v tableV1) (table, error) {
			return table{Guests: len(v.People), Size: v.Size}, nil
		})}
		first := bookingV1()
		f.Previous = &first
	})...)
}

// Who stands in the middle of a form, with words that wait, goes on there in the next
// version, whose state has another form.
func TestMigrationKeepsTheForm(t *testing.T) {
	t.Parallel()
	p := play(t, bookingV1(), `
		> hi
		! 1s
		< How many?
		> xxx
		! 1s
		< What size? [Small] [Large] [Extra large]
		> the extra`)
	p.bot = bookingV2()
	p.plays(`
		> large one
		! 1s
		< Your name?
		> Ann
		! 1s
		< booked {Guests:3 Size:Extra large Name:Ann Note: Dogs:false Breed:}`)
}

// What can't go on is the Fallback's. What was stored stays until it is ended.
func TestFallback(t *testing.T) {
	t.Parallel()
	b := bookingV2(func(f *flow.Flow[table]) {
		f.Fallback = func(t *flow.Turn[table]) error {
			if t.Said() == "anew" {
				t.End()
			}
			kind, _, _ := strings.Cut(t.FallbackCause().Error(), ":")
			t.Sayf("can't go on (%s) with %+v", kind, *t.State)
			return nil
		}
	})
	p := play(t, bookingV1(), "> hi\n! 1s\n< How many?\n> go")
	p.bot = b
	p.plays("> hello?\n< can't go on (behavior) with {Guests:0 Size: Name: Note: Dogs:false Breed:}")

	p = play(t, bookingV1(), "> hi\n! 1s\n< How many?")
	for _, broken := range []string{`{"$flow":{}}`, `{"$flow":1,"$state":{"people":1}}`, `{"people":[]}`} {
		p.snapshot.State, p.snapshot.BotVersion = []byte(broken), 1
		p.bot = b
		p.plays("> hello?\n< can't go on (migration) with {Guests:0 Size: Name: Note: Dogs:false Breed:}")
		if got := p.state(); got != broken || p.snapshot.BotVersion != 1 {
			t.Errorf("version %d, state %s: want it as it was", p.snapshot.BotVersion, got)
		}
	}
	p.snapshot.State, p.snapshot.BotVersion = []byte(`{"guests":"four"}`), 2
	p.plays(`
		> hello?
		< can't go on (state) with {Guests:0 Size: Name: Note: Dogs:false Breed:}
		> anew
		< can't go on (state) with {Guests:0 Size: Name: Note: Dogs:false Breed:}
		> hello?
		! 1s
		< How many?`)
}

func TestVersionsAreChecked(t *testing.T) {
	t.Parallel()
	f := flow.Flow[memory]{Name: "x", Version: 1, Start: echo, Migrations: map[int]parley.Migration{1: nil}}
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "versions: ") {
		t.Errorf("got %v", err)
	}
}
