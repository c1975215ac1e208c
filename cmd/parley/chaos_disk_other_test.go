//go:build !linux

package main_test

func diskFaults() []fault { return nil }
