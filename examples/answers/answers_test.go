package answers_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/answers"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/meta"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Kit{Bot: answers.Bot(), Encodes: encodes}.Run(t, "testdata/*.txt")
}

// encodes says whether the platform can show a message.
func encodes(o *parley.Outgoing) error {
	_, _, err := meta.EncodeSend(o, meta.Sending{})
	return err
}

// model is a language model that speaks the chat completions protocol, and repeats what
// it is asked. It refuses what isn't of the protocol.
func model(c parley.Call) flowtest.Answer {
	var request struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.Unmarshal(c.Body, &request); err != nil || c.Path != "/chat/completions" || len(request.Messages) < 2 {
		return flowtest.Answer{Status: 400, Body: []byte(`{"error": {"message": "not a request"}}`)}
	}
	for i, m := range request.Messages {
		want := "user"
		switch {
		case i == 0:
			want = "system"
		case i%2 == 0:
			want = "assistant"
		}
		if m.Role != want || m.Content == "" {
			return flowtest.Answer{Status: 400, Body: []byte(`{"error": {"message": "roles don't take turns"}}`)}
		}
	}
	last := request.Messages[len(request.Messages)-1].Content
	body, err := json.Marshal(map[string]any{"choices": []any{map[string]any{
		"message": map[string]string{"role": "assistant", "content": fmt.Sprintf("You asked %q, after %d messages.", last, len(request.Messages)-2)},
	}}})
	if err != nil {
		return flowtest.Answer{Status: 500}
	}
	return flowtest.Answer{Status: 200, Body: body}
}

// However long the talk, the model is asked what it understands, and not too much.
func TestModel(t *testing.T) {
	t.Parallel()
	flowtest.Kit{Bot: answers.Bot(), Encodes: encodes, Services: map[string]flowtest.Service{answers.Service: model}}.Run(t, "testdata/model/*.txt")
}
