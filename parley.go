// Package parley is the vocabulary of a runtime for chat conversations at
// webhook scale, and the one function that thinks: [Step].
//
// The road has one direction. Meta posts a webhook; what it says becomes
// [Event]s; each is stored as a [Pending] row in the inbox of its
// [Conversation] before the webhook is acknowledged. The actor that owns the
// conversation hands its [Snapshot] and the pending rows to [Step], which asks
// the [Bot] and answers with a [Commit]: the state to write, the rows consumed,
// the messages to send ([Outgoing]), the timers to set. The store takes the
// commit whole or not at all. Senders then carry the outgoing messages to Meta.
//
// Everything that can happen to a conversation is an [Input], everything that a
// bot may want is an [Effect]; both are closed sums, so that a switch over them
// can be checked for completeness.
//
// This package does no I/O, starts no goroutine, reads no clock and draws no
// random number: whoever calls it brings those. It imports the standard library
// only; every other package of the module may import it, and it imports none.
package parley
