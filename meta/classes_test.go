package meta_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// The documented codes, by what is to be done about them: R retry, W wait, T
// the brand must act, U the user, P permanent. Written from Meta's pages again,
// not from the table.
var (
	whatsAppDocumented = map[string][]int{
		"R": {1, 2, 131000, 131016, 131057, 133004},
		"W": {4, 80007, 130429, 131056, 132069, 133016, 134101},
		"T": {
			0, 190, 3, 10, 200, 210, 250, 299, 131005, 368, 131031, 131048, 33, 131037, 131042, 131045, 132001, 132015,
			132016, 132068, 133000, 133005, 133006, 133008, 133009, 133010, 133015, 134011, 147001, 147002, 147003, 147004,
		},
		"U": {130472, 131026, 131049, 131050},
		"P": {
			130497, 100, 131008, 131009, 131021, 131047, 131051, 131052, 131053, 131055, 131062, 132000, 132005, 132007,
			132012, 134100, 134102, 135000, 2593107, 2593108,
		},
	}
	messengerDocumented = map[string][][2]int{
		"R":    {{1, 0}, {2, 0}},
		"sent": {{1, 1357046}},
		"W": {
			{4, 0}, {17, 0}, {32, 0}, {613, 0}, {613, 1893016}, {613, 2018338}, {613, 2534040}, {613, 1996}, {4, 2018354},
		},
		"T": {
			{10, 1893063}, {190, 0}, {190, 458}, {190, 460}, {190, 463}, {190, 467}, {200, 0}, {200, 2534041}, {368, 0},
		},
		"U": {
			{2, 2018344},
			{10, 2018108},
			{10, 1893015},
			{100, 2018001},
			{100, 33},
			{200, 1545041},
			{551, 0},
			{551, 1545041},
			{551, 1893047},
		},
		"P": {
			{10, 2018278},
			{10, 2018065},
			{10, 2534022},
			{100, 0},
			{100, 2018008},
			{100, 2018294},
			{100, 2018047},
			{100, 2018109},
			{2018300, 0},
			{2018321, 0},
			{9000001, 0},
		},
	}
	classes = map[string]meta.Class{
		"R": meta.ClassRetry, "W": meta.ClassWait, "T": meta.ClassTenant, "U": meta.ClassUser, "P": meta.ClassPermanent,
		"sent": meta.ClassSent,
	}
)

func TestEveryDocumentedCode(t *testing.T) {
	t.Parallel()
	check := func(kind parley.ChannelKind, code, subcode int, want string) {
		t.Helper()
		got, known := meta.Treat(kind, code, subcode)
		if !known || got.Class != classes[want] || got.About == "" {
			t.Errorf("%s %d/%d: %s, known %t; want %s", kind, code, subcode, got.Class, known, want)
		}
		if got.Class == meta.ClassWait && got.Wait == 0 {
			t.Errorf("%s %d/%d: wait for how long?", kind, code, subcode)
		}
	}
	for want, codes := range whatsAppDocumented {
		for _, code := range codes {
			check(parley.WhatsApp, code, 0, want)
			check(parley.WhatsApp, code, 33, want) // its subcodes say nothing
		}
	}
	for want, codes := range messengerDocumented {
		for _, c := range codes {
			check(parley.Messenger, c[0], c[1], want)
			check(parley.Instagram, c[0], c[1], want)
		}
	}
	for _, code := range []int{-1, 199, 300, 131001, 147000, 147005} {
		if got, known := meta.Treat(parley.WhatsApp, code, 0); known {
			t.Errorf("%d: %v", code, got)
		}
	}
}

// TestScopes sees that what concerns one user does not stop a channel, and the
// other way round.
func TestScopes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  parley.ChannelKind
		code  int
		scope meta.Scope
		wait  time.Duration
	}{
		{parley.WhatsApp, 131056, meta.ScopeContact, 6 * time.Second},
		{parley.WhatsApp, 130429, meta.ScopeChannel, 2 * time.Second},
		{parley.WhatsApp, 131049, meta.ScopeMessage, 24 * time.Hour},
		{parley.WhatsApp, 80007, meta.ScopeApp, time.Minute},
		{parley.WhatsApp, 190, meta.ScopeChannel, 0},
		{parley.WhatsApp, 132001, meta.ScopeMessage, 0},
		{parley.Messenger, 551, meta.ScopeContact, 0},
		{parley.Messenger, 100, meta.ScopeMessage, 0},
	} {
		if got, _ := meta.Treat(c.kind, c.code, 0); got.Scope != c.scope || got.Wait != c.wait {
			t.Errorf("%s %d: %s, %s", c.kind, c.code, got.Scope, got.Wait)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for c := meta.ClassUnknown; c <= meta.ClassSent; c++ {
		seen[c.String()] = true
	}
	for s := meta.ScopeMessage; s <= meta.ScopeApp; s++ {
		seen[s.String()] = true
	}
	if len(seen) != 11 || seen["class?"] || seen["scope?"] {
		t.Errorf("%v", seen)
	}
	if meta.Class(99).String() != "class?" || meta.Scope(99).String() != "scope?" {
		t.Error("an unknown value has a name")
	}
}
