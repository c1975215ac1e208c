package parley_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func TestReceiptSaid(t *testing.T) {
	t.Parallel()
	echo := parley.Echo{ID: "mid.1", Text: "I take over"}
	r := parley.Receipt{Status: parley.StatusEchoed, ProviderID: "mid.1", Contact: "user:a"}
	if _, ok := r.Said(); ok {
		t.Error("says something without having been told")
	}
	if err := r.Say(echo); err != nil {
		t.Fatal(err)
	}
	if got, ok := r.Said(); !ok || got.Text != echo.Text || got.ID != echo.ID {
		t.Errorf("said %+v %v", got, ok)
	}
	for name, change := range map[string]func(*parley.Receipt){
		"AFailure":      func(r *parley.Receipt) { r.Status = parley.StatusFailed },
		"OfAMessage":    func(r *parley.Receipt) { r.Row = parley.ID{1} },
		"OfNobody":      func(r *parley.Receipt) { r.Contact = "" },
		"WithoutName":   func(r *parley.Receipt) { r.ProviderID = "" },
		"OtherWords":    func(r *parley.Receipt) { r.Reason = "undeliverable" },
		"AnotherInput":  func(r *parley.Receipt) { r.Reason = `{"kind":"message","input":{}}` },
		"OfNewerFormat": func(r *parley.Receipt) { r.Reason = `{"kind":"warped","input":{}}` },
	} {
		changed := r
		change(&changed)
		if said, ok := changed.Said(); ok {
			t.Errorf("%s: said %+v", name, said)
		}
	}
}

func TestReceiptWhose(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_795_680_000_000)
	ch := parley.Channel{Brand: "b", Kind: parley.Instagram, ID: "1"}
	at := func(contact parley.Contact, s parley.Send) parley.Attempt {
		return parley.Attempt{Claimed: now, Outgoing: parley.Outgoing{
			Conversation: parley.Conversation{Channel: ch, Contact: contact}, At: now, Send: s,
		}}
	}
	open := func(a parley.Attempt) parley.Attempt { a.Open = true; return a }
	doubt := func(a parley.Attempt) parley.Attempt { a.Doubtful = true; return a }
	ago := func(a parley.Attempt, d time.Duration) parley.Attempt { a.Claimed = now.Add(-d); return a }
	x, image := at("user:a", parley.Send{Text: "x"}), at("user:a", parley.Send{Media: &parley.Media{Kind: parley.Image}})
	typing := at("user:a", parley.Send{Signal: &parley.Signal{Kind: parley.Typing}})
	post := at("subject:post", parley.Send{Text: "x"})
	for name, c := range map[string]struct {
		text string
		late time.Duration // the echo is so much older than the attempts
		with []parley.Attempt
		want parley.EchoOf
	}{
		"Nobody":              {"x", 0, nil, parley.EchoOfOther},
		"Open":                {"x", 0, []parley.Attempt{open(x)}, parley.EchoUndecided},
		"OpenOfOtherWords":    {"y", 0, []parley.Attempt{open(x)}, parley.EchoUndecided},
		"OpenForTooLong":      {"x", 0, []parley.Attempt{ago(open(x), parley.EchoWait)}, parley.EchoOfOther},
		"OpenDecidedSince":    {"x", time.Minute, []parley.Attempt{open(x)}, parley.EchoOfOther},
		"OpenByASlowClock":    {"x", 4 * time.Second, []parley.Attempt{open(x)}, parley.EchoUndecided},
		"OpenSignal":          {"x", 0, []parley.Attempt{open(typing)}, parley.EchoOfOther},
		"OpenPost":            {"x", 0, []parley.Attempt{open(post)}, parley.EchoUndecided},
		"Doubtful":            {"x", 0, []parley.Attempt{doubt(x)}, parley.EchoProof},
		"DoubtfulForLong":     {"x", 0, []parley.Attempt{ago(doubt(x), time.Hour)}, parley.EchoProof},
		"DoubtfulDecidedLate": {"x", time.Minute, []parley.Attempt{doubt(x)}, parley.EchoOfOther},
		"OfALostSender":       {"x", 0, []parley.Attempt{x}, parley.EchoProof},
		"AttemptedAgain":      {"x", 0, []parley.Attempt{open(doubt(x))}, parley.EchoProof},
		"DoubtfulOtherWords":  {"y", 0, []parley.Attempt{doubt(x)}, parley.EchoOfOther},
		"AgainOtherWords":     {"y", 0, []parley.Attempt{open(doubt(x))}, parley.EchoUndecided},
		"DoubtfulPost":        {"x", 0, []parley.Attempt{doubt(post)}, parley.EchoOfOther},
		"DoubtfulImage":       {"", 0, []parley.Attempt{doubt(image)}, parley.EchoOfOurs},
		"DoubtfulNoImage":     {"", 0, []parley.Attempt{doubt(x)}, parley.EchoOfOther},
		"SecondIsProven":      {"x", 0, []parley.Attempt{open(post), doubt(x)}, parley.EchoProof},
	} {
		r := parley.Receipt{Channel: ch, Status: parley.StatusEchoed, ProviderID: "mid.1", Contact: "user:a", Time: now.Add(-c.late)}
		of, i := r.Whose(&parley.Echo{Text: c.text}, c.with, now)
		if of != c.want || of == parley.EchoProof && i != len(c.with)-1 {
			t.Errorf("%s: is of %d (attempt %d), want %d", name, of, i, c.want)
		}
	}
}
