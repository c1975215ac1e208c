package main

// Main is the command itself, for tests that run it as a process.
func Main() { main() }
