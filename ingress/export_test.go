package ingress

import "github.com/parleychat/parley"

// DecodeWith decodes body as a webhook of the app, with another directory.
func (s *Server) DecodeWith(name parley.App, body []byte, resolve func(parley.ChannelKind, string) (parley.Channel, bool)) error {
	_, err := s.apps[name].decode(body, resolve)
	return err
}
