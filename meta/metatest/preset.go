package metatest

import (
	"fmt"
	"time"
)

// FaultLevels are the names that [FaultsOf] knows.
const FaultLevels = "none,light,heavy"

// FaultsOf are faults of the Graph API by name: none; light, as on a good day of
// Meta's; heavy, when every fifth send goes wrong, more than half of these accepted all
// the same. Nothing is throttled by chance: Meta's answer to too many sends is about a
// channel and a while, and a sender does well to pause all of it. Limits do that.
func FaultsOf(level string) (Faults, error) {
	switch level {
	case "", "none":
		return Faults{}, nil
	case "light":
		return Faults{Transient: 0.01, Withheld: 0.01}, nil
	case "heavy":
		return Faults{Transient: 0.08, Withheld: 0.08, Slow: 0.04, SlowFor: 3 * time.Second}, nil
	}
	return Faults{}, fmt.Errorf("faults of the graph api: %q is none of %s", level, FaultLevels)
}
