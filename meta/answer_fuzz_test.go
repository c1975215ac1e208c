package meta_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// FuzzReadAnswer: whatever answers a send, with whatever status, is a provider's id, a
// class of refusal, or unknown. A message that may have been sent is never taken for one
// that wasn't; nothing of an answer makes a log's line two, or a page of it; and no wait
// is longer than a day.
func FuzzReadAnswer(f *testing.F) {
	for _, body := range []string{
		`{"recipient_id":"1","message_id":"m_1"}`, `{"messaging_product":"whatsapp","contacts":[{"wa_id":"49"}],"messages":[{"id":"wamid.1"}]}`,
		`{"message_id":7}`, `{"messages":[]}`, `{"messages":[{"id":null}]}`, `{"message_id":"","messages":[{"id":"wamid.2"}]}`, `{"success":true}`,
		`{"error":{"message":"(#131030) Recipient not in allowed list","type":"OAuthException","code":131030,"error_data":{"details":"x"},"fbtrace_id":"A"}}`,
		`{"error":{"message":"a\nb","code":"190","error_subcode":463,"is_transient":"true"}}`, `{"error":{"code":1,"error_subcode":1357046}}`,
		`{"error":{"code":99999999999999999999}}`, `{"error":null,"message_id":"m_2"}`, `{"error":{}}`, `{"error":[]}`,
		`<html>502</html>`, ``, `null`, `[]`, `{"message_id":"m_3"`, "{\"error\":{\"message\":\"\xff\"}}",
	} {
		for _, status := range []int{200, 400, 429, 503} {
			f.Add(status, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		for _, kind := range []parley.ChannelKind{parley.Messenger, parley.Instagram, parley.WhatsApp} {
			id, err := meta.ReadAnswer(kind, status, body)
			again, errAgain := meta.ReadAnswer(kind, status, body)
			if id != again || (err == nil) != (errAgain == nil) {
				t.Fatalf("read again: %q, %v; at first %q, %v", again, errAgain, id, err)
			}
			if err == nil {
				// Of one refusal Meta says that the messages were sent: it names none.
				if id == "" && !bytes.Contains(body, []byte("1357046")) || id != "" && status/100 != 2 {
					t.Errorf("%s: HTTP %d is taken for a message sent, with the id %q", kind, status, id)
				}
				continue
			}
			checkRefusal(t, status, id, err)
		}
	})
}

// checkRefusal holds an answer that isn't an id to what senders rely on.
func checkRefusal(t *testing.T, status int, id string, err error) {
	t.Helper()
	g, ok := errors.AsType[*meta.GraphError](err)
	switch {
	case !ok || id != "" || g.HTTP != status:
		t.Fatalf("HTTP %d: id %q with %v", status, id, err)
	case g.Class == meta.ClassSent:
		t.Errorf("HTTP %d is a failure that isn't one: %v", status, err)
	case g.Code == 0 && g.Message == "" && status >= http.StatusInternalServerError && g.Class != meta.ClassUnknown && g.Class != meta.ClassRetry:
		t.Errorf("HTTP %d, and nobody knows what became of the message: %v", status, err)
	case g.RetryAfter < 0 || g.RetryAfter > 24*time.Hour:
		t.Errorf("a wait of %s", g.RetryAfter)
	case len(err.Error()) > 400:
		t.Errorf("an error of %d bytes", len(err.Error()))
	case strings.ContainsFunc(err.Error(), unicode.IsControl):
		t.Errorf("an error with control characters: %q", err)
	}
}
