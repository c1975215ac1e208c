package egress

import "github.com/parleychat/parley"

// BulkShare is the share of a channel's messages that are bulk, while both those
// and replies wait: whoever writes to a bot in the middle of a campaign waits for
// hardly longer, and a campaign comes to its end however much people write. What
// one lane leaves is the other's.
const BulkShare = 0.2

// roundedUp is what is missing of a place by the inexactness of the count.
const roundedUp = 1e-6

// lanes keeps the shares over claims of any size.
type lanes struct {
	owed float64 // places that bulk has earned and not had; at most one
}

// places divides the places of a claim.
func (s *Sender) places(limit int) parley.Places {
	return parley.Places{All: limit, Bulk: min(limit, int(s.lanes.owed+BulkShare*float64(limit)+roundedUp))}
}

// share notes what was claimed of either lane. A lane that had nothing to send
// has earned nothing.
func (l *lanes) share(rows []parley.Claimed) {
	bulk := 0
	for i := range rows {
		if rows[i].Send.Bulk {
			bulk++
		}
	}
	l.owed = min(max(l.owed+BulkShare*float64(len(rows))-float64(bulk), 0), 1)
}
