package ingress

import "github.com/parleychat/parley"

// DecodeWith decodes body as a webhook of the app, with another directory.
func (s *Server) DecodeWith(name parley.App, body []byte, resolve func(parley.ChannelKind, string) (parley.Channel, bool)) error {
	_, err := s.apps[name].decode(body, resolve)
	return err
}

// EncodeArrivals is the form in which arrivals are spooled.
func EncodeArrivals(a parley.Arrivals, late bool) ([]byte, error) {
	return appendArrivals(nil, &a, late)
}

// DecodeArrivals reads it back.
func DecodeArrivals(b []byte) (parley.Arrivals, error) { return decodeArrivals(b) }
