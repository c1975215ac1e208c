package parley_test

import (
	"testing"

	"github.com/parleychat/parley"
)

func TestStatusJoin(t *testing.T) {
	t.Parallel()
	rising := []parley.Status{
		"", "held_for_quality", "pending", parley.StatusEchoed, parley.StatusSent, parley.StatusDelivered, parley.StatusRead,
		parley.StatusPlayed, parley.StatusDeleted, parley.StatusFailed,
	}
	for i, a := range rising {
		for j, b := range rising {
			if got, want := a.Join(b), rising[max(i, j)]; got != want {
				t.Errorf("%q and then %q is %q, want %q", a, b, got, want)
			}
			for _, c := range rising {
				if left, right := a.Join(b).Join(c), a.Join(b.Join(c)); left != right {
					t.Errorf("%q, %q, %q: %q or %q", a, b, c, left, right)
				}
			}
		}
	}
}

func TestArrivalsEmpty(t *testing.T) {
	t.Parallel()
	if !(parley.Arrivals{}).Empty() {
		t.Error("nothing is empty")
	}
	for _, a := range []parley.Arrivals{
		{Events: make([]parley.Event, 1)}, {Receipts: make([]parley.Receipt, 1)}, {Quarantined: make([]parley.Quarantined, 1)},
	} {
		if a.Empty() {
			t.Errorf("%+v is not empty", a)
		}
	}
}
