// Package wire is what nodes tell each other about conversations, as wire.proto
// describes it. It is generated; make generate does so.
package wire
