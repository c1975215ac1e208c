package tally_test

import (
	"testing"

	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/flow/flowtest"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, tally.Bot(), "testdata/*.txt")
	flowtest.Run(t, tally.Caller(), "testdata/calls/*.txt")
}
