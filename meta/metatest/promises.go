package metatest

import (
	"cmp"
	"fmt"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// MedianMost is what Meta asks receivers for (WhatsApp docs, webhooks).
const MedianMost = 250 * time.Millisecond

// A simulator that is late itself by more than lagMost can't tell who was slow.
const lagMost = 100.0 // ms

// Promise is one of those of Parley's architecture document, and what a run showed of it.
type Promise struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Checked int    `json:"checked"`        // how often it was put to the test; 0: this run says nothing of it
	Broken  int    `json:"broken"`         // of these
	Note    string `json:"note,omitempty"` // what was counted; or why nothing was
}

// Circumstances are what a run went through.
type Circumstances struct {
	Nodes  int // at the same time
	Faults int // of nodes, the network between them and the store, that were over before the end
	// Changes are those of these after which another node may have taken over.
	Changes int
	// Stored are conversations seen in the store while versions of a bot changed, and
	// Overwritten those of them whose newer state an older version overwrote.
	Stored, Overwritten int
	// MedianMost is the median of the answers that the entrance may take, for a machine that
	// has too much else to do; 0: [MedianMost].
	MedianMost time.Duration
}

// Promises names all ten, with what was put to the test and what was broken. A history
// that was checked adds what it showed; nil is none.
func Promises(v *Verdict, h *history.Report, c Circumstances) []Promise {
	if h == nil {
		h = &history.Report{}
	}
	p := func(id, name string, checked, broken int, note string) Promise {
		return Promise{ID: id, Name: name, Checked: checked, Broken: max(broken, h.ByPromise[id]), Note: note}
	}
	return []Promise{
		p("G1", "no acknowledged event is lost", v.Acked, v.Lost+v.Pending, "messages acknowledged"),
		p("G2", "an event takes effect once", v.Redelivered, v.EffectsDoubled, "messages that came more than once"),
		p("G3", "order", v.Ordered, v.Reordered, noteIf(v.Ordered > 0, "messages with one acknowledged before", "not tested: nobody wrote twice")),
		v.oneWriter(h, c),
		p("G5", "replies once, in order", v.Effects, v.Unanswered+v.SendsRepeatedUnexplained+v.SendsOutOfOrder+v.Strays+v.Undelivered, "replies owed"),
		p("G6", "timers", v.TimersSet, v.TimersEarly+v.TimersDoubled+v.TimersAfterCancel+v.TimersMissing, "timers set"),
		v.fastEntrance(cmp.Or(c.MedianMost, MedianMost)),
		p("G8", "brands are isolated", 0, 0, "not tested: the run has one brand"),
		v.heals(h, c),
		p("G10", "no older version overwrites a newer", c.Stored, c.Overwritten, noteIf(c.Stored > 0, "conversations watched during an upgrade", "not tested: no version changed")),
	}
}

func noteIf(tested bool, yes, no string) string {
	if tested {
		return yes
	}
	return no
}

// oneWriter is tested where conversations change hands.
func (v *Verdict) oneWriter(h *history.Report, c Circumstances) Promise {
	p := Promise{ID: "G4", Name: "one writer", Broken: h.ByPromise["G4"]}
	switch {
	case c.Nodes < 2:
		p.Note = "not tested: one node has no other to write against"
	case c.Changes == 0:
		p.Note = "not tested: no conversation changed hands"
	case h.Conversations == 0:
		p.Note = "not tested: no history was kept"
	default:
		p.Checked, p.Note = h.Conversations-h.Undecided, "conversations with a decided history"
	}
	return p
}

// fastEntrance judges attempts that were answered with 200: a node that is dead can't be fast.
func (v *Verdict) fastEntrance(most time.Duration) Promise {
	p := Promise{ID: "G7", Name: "the entrance stays fast", Checked: v.Posts - v.PostsRetried}
	p.Note = fmt.Sprintf("posts acknowledged; median %.1f ms, want %d at most", v.AnswerMS.P50, most.Milliseconds())
	switch {
	case v.LagMS > lagMost:
		p.Checked, p.Note = 0, fmt.Sprintf("not tested: the simulator itself was %.0f ms late, this machine has too much to do", v.LagMS)
	case v.AnswerMS.P50 > float64(most.Milliseconds()):
		p.Broken = 1
	}
	return p
}

// heals is tested by conversations that write once more after the last fault.
func (v *Verdict) heals(h *history.Report, c Circumstances) Promise {
	p := Promise{ID: "G9", Name: "it heals", Broken: max(v.Silent, h.ByPromise["G9"])}
	switch {
	case c.Faults == 0:
		p.Note = "not tested: there was no fault to heal of"
	case v.LastAsked == 0:
		p.Note = "not tested: nobody wrote after the last fault"
	default:
		p.Checked, p.Note = v.LastAsked, fmt.Sprintf("conversations asked once more after %d faults", c.Faults)
	}
	return p
}
