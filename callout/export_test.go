package callout

import "time"

// Target is where a service's call of a path goes.
func Target(s Service, path string) (string, error) {
	at, err := s.base()
	if err != nil {
		return "", err
	}
	u, err := (&service{Service: s, at: at}).target(path)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// RetryAfter reads a header.
func RetryAfter(value, date string) time.Duration { return retryAfter(value, date) }
