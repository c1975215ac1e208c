package metatest

import "github.com/parleychat/parley/meta/metatest/history"

// note adds to the history what befell a message, if one is kept.
func (w *World) note(i int32, kind string, n uint32) {
	if w.cfg.History == nil {
		return
	}
	e := history.Event{At: w.now, Kind: kind, Conversation: w.name(w.userOf(i)), Message: w.numberOf(i), N: n}
	if r := &w.records[i]; kind == history.Post {
		e.Wants = [...]string{say: history.Say, remind: history.Remind, forget: history.Forget}[r.command]
		e.Arg, e.Last = r.arg, r.last
	}
	w.keep(e)
}

// keep adds an event to the history, if one is kept.
func (w *World) keep(e history.Event) {
	if w.cfg.History == nil {
		return
	}
	w.cfg.History.Begin(history.Header{Seed: w.cfg.Seed, Start: w.start})
	w.cfg.History.Add(e)
}
