package pgserver

// What Find is made of: its answer depends on the machine.
var (
	Newest        = newest
	LinkLibraries = linkLibraries
)
