package egress

// Remembered is the number of contacts that a Sender remembers for the pair limit.
func Remembered(s *Sender) int { return len(s.limits.pairs) }
