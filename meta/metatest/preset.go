package metatest

import (
	"fmt"
	"time"
)

// FaultLevels are the names that [FaultsOf] knows.
const FaultLevels = "none,light,heavy"

// FaultsOf are faults of the Graph API by name: none; light, as on a good day of
// Meta's; heavy, when every fifth send goes wrong, half of these accepted all the same.
func FaultsOf(level string) (Faults, error) {
	switch level {
	case "", "none":
		return Faults{}, nil
	case "light":
		return Faults{Transient: 0.01, Withheld: 0.01}, nil
	case "heavy":
		return Faults{Transient: 0.05, Throttled: 0.05, Withheld: 0.07, Slow: 0.03, SlowFor: 3 * time.Second}, nil
	}
	return Faults{}, fmt.Errorf("faults of the graph api: %q is none of %s", level, FaultLevels)
}
