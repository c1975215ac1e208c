package greeter_test

import (
	"testing"

	"github.com/parleychat/parley/examples/greeter"
	"github.com/parleychat/parley/flow/flowtest"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, greeter.Bot(), "testdata/*.txt")
}
