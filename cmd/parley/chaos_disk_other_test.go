//go:build !linux

package main_test

import (
	"testing"
	"time"
)

func diskFaults() []fault { return nil }

func diskUpsets() []upset { return nil }

func smallData(t *testing.T) string { t.Helper(); return t.TempDir() }

func ownDisk(t *testing.T) string { t.Helper(); t.Skip("disks of their own take Linux"); return "" }

func stallDisk(t *testing.T, _ string, _ time.Duration) { t.Helper(); t.Fatal("it takes Linux") }
