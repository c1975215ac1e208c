// Package metatest plays Meta and its users against a Parley node, from
// outside, and judges the node by its own record only.
//
// It has two layers. [World] is the pure core: one seed, one goroutine, time as
// an argument, no sockets; a deterministic simulation drives it call by call.
// [Simulator] is the thin shell around it: it posts the webhooks over HTTP,
// serves a Graph API on the loopback interface and keeps the wall clock.
//
// # The bot that it talks to
//
// Every simulated user numbers its messages 1, 2, 3 … and each is a command. It
// stands in the text, or in the payload of the quick reply or button that the
// user clicked; whatever follows the numbers is filler.
//
//	say K          one reply "said K #N"
//	remind K MS    one reply "said K #N", and MS milliseconds later, once, "ring K"
//	forget K J     one reply "said K #N"; reminder J rings no more after it
//
// N counts the commands of that user that have taken effect, this one included.
// N is what makes the node's inside visible: a lost, doubled or reordered effect
// shows in the numbers, whatever became of the replies.
//
// # What is judged
//
// The promises are those of Parley's architecture document: no acknowledged
// event is lost (G1), each takes effect once (G2), in order (G3), every reply is
// sent once and in order (G5), timers ring once, never early, never after they
// were cancelled (G6). [Verdict] has one counter for each way to break them.
// "Before" and "after" are judged by the order of the calls to World, which is
// sound: an answer is reported after it was read, and a post is handed out
// before it is written.
//
// The package imports neither Parley's packages nor its decoder: what it checks
// must not also be what it believes.
package metatest
