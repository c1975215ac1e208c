package faq_test

import (
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/faq"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/meta"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Kit{Bot: faq.Bot(), Encodes: encodes}.Run(t, "testdata/*.txt")
}

// encodes says whether the platform can show a message.
func encodes(o *parley.Outgoing) error {
	_, _, err := meta.EncodeSend(o, meta.Sending{})
	return err
}
