// Package meta speaks Meta's wire formats, and nothing else of Parley knows
// them. In: [Handshake], [Verifier] and [Decode] turn a signed webhook body
// into events, receipts and quarantined updates. Out: [EncodeSend], [Client]
// and the table of error codes turn an outgoing message into a provider's id
// or into an error whose [Class] says what to do next.
//
// Everything but the Client is a pure function: no clock, no I/O, no
// goroutine, and no result that shares memory with the body it came from.
//
// Sources are Meta's pages on webhooks, messages and error codes of May to
// September 2026, and several hundred published webhook bodies. Where the pages
// and the bodies differ, the decoder accepts both.
package meta
