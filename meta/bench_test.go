//go:build unix

package meta_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/parleychat/parley/meta"
)

// whatsAppText is a webhook with one text, 450 bytes as Meta sends them.
func whatsAppText() []byte {
	const form = `{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":` +
		`{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881",` +
		`"phone_number_id":"106540352242922"},"contacts":[{"profile":{"name":"Sheena Nelson"},"wa_id":"16505551234"}],` +
		`"messages":[{"from":"16505551234","id":"wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQ",` +
		`"timestamp":"1749416383","type":"text","text":{"body":"%s"}}]},"field":"messages"}]}]}`
	return fmt.Appendf(nil, form, strings.Repeat("x", max(450-len(form)+len("%s"), 8)))
}

func messengerTextBody() []byte {
	return []byte(`{"object":"page","entry":[{"id":"111899832631525","time":1458692752478,"messaging":[{"sender":` +
		`{"id":"1433960459967306"},"recipient":{"id":"111899832631525"},"timestamp":1458692752478,"message":` +
		`{"mid":"m_1457764197618:41d102a3e1ae206a38","text":"hello, world!"}}]}]}`)
}

func BenchmarkDecode(b *testing.B) {
	o := everything()
	for name, body := range map[string][]byte{"whatsapp": whatsAppText(), "messenger": messengerTextBody()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			begin, n := cpuTime(b), 0
			for b.Loop() {
				n++
				d, err := meta.Decode(body, o)
				if err != nil || len(d.Events) != 1 {
					b.Fatal(err, len(d.Events))
				}
			}
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(n), "cpu-ns/op")
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	body := whatsAppText()
	v := meta.NewVerifier([]string{"old secret", "secret"})
	header := meta.Sign(body, "secret")
	b.ReportAllocs()
	begin, n := cpuTime(b), 0
	for b.Loop() {
		n++
		if err := v.Verify(body, header); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(n), "cpu-ns/op")
}

// cpuTime is the process's own: the wall clock says little where others work.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
