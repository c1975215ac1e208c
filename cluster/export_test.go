package cluster

// Tell encodes what a member tells of itself, beside its name.
func Tell(m Member) ([]byte, error) { return m.tell() }

// Hear is the inverse.
func Hear(name string, b []byte) (Member, error) { return hear(name, b) }
