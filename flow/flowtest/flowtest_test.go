package flowtest_test

import (
	"testing"

	"github.com/parleychat/parley/flow/flowtest"
)

// The transcripts of the kit itself, in all ways.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, parrot(), "testdata/*.txt")
}
