package meta

import "github.com/parleychat/parley"

// ReadAnswer finds the provider's id of the message in an answer of the Graph
// API, or says by a *GraphError what the answer means. It is what [Client.Send]
// does with each answer, for those who make the call by other means.
func ReadAnswer(kind parley.ChannelKind, status int, body []byte) (providerID string, err error) {
	return (&answer{status: status, body: body}).read(kind)
}
