package console

// Warnings are what the API says follows from a status.
func Warnings(s *Status) []Warning { return warnings(s) }
