package egress

import (
	"time"

	"github.com/parleychat/parley"
)

// Status is how it stands with a channel's sending.
type Status struct {
	Channel  parley.Channel
	Pause    Pause   // Reason is empty if it doesn't pause; Until is of the Config's Clock
	Rate     float64 // messages in a second that it may send now; 0: any number
	Ceiling  float64 // what Rate goes back to
	InFlight int     // messages claimed and not settled
}

// Parked reports whether the brand must act before anything is sent.
func (s Status) Parked() bool { return s.Pause.Reason == Dead }

// Left is how long the pause lasts from now on, 0 if it is over.
func (s Status) Left(now time.Duration) time.Duration {
	if s.Pause.Reason == "" {
		return 0
	}
	return max(s.Pause.Until-now, 0)
}

func (s *Sender) status() Status {
	p, _ := s.Paused()
	rate, ceiling := s.Rate()
	return Status{Channel: s.channel, Pause: p, Rate: rate, Ceiling: ceiling, InFlight: s.unsettled()}
}
