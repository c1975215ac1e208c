//go:build !linux

package main_test

import "testing"

func diskFaults() []fault { return nil }

func diskUpsets() []upset { return nil }

func smallData(t *testing.T) string { t.Helper(); return t.TempDir() }
