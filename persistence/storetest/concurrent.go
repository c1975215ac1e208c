package storetest

import "testing"

func runConcurrent(t *testing.T, open Open) { t.Helper(); _ = open }
func runModel(t *testing.T, open Open)      { t.Helper(); _ = open }
