package meta_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

func TestParseUsage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		app, page, business string
		want                meta.Usage
	}{
		"none":       {},
		"app":        {`{"call_count":28,"total_time":25,"total_cputime":31}`, "", "", meta.Usage{Percent: 31}},
		"page":       {`{"call_count":3}`, `{"call_count":90,"total_time":1,"total_cputime":1}`, "", meta.Usage{Percent: 90}},
		"business":   {"", "", `{"1":[{"type":"messenger","call_count":100,"total_cputime":25,"total_time":25,"estimated_time_to_regain_access":19}],"2":[{"call_count":5}]}`, meta.Usage{Percent: 100, Wait: 19 * time.Minute}},
		"as strings": {`{"call_count":"28"}`, "", "", meta.Usage{Percent: 28}},
		"fraction":   {`{"call_count":99.2}`, "", "", meta.Usage{Percent: 100}},
		"overdrawn":  {`{"call_count":1e300}`, "", "", meta.Usage{Percent: 1000}},
		"negative":   {`{"call_count":-7,"total_time":"NaN"}`, "", "", meta.Usage{}},
		"broken":     {`{"call_count":`, `[]`, `{"1":{}}`, meta.Usage{}},
		"absurd":     {"", "", `{"1":[{"estimated_time_to_regain_access":99999999}]}`, meta.Usage{Wait: 24 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := meta.ParseUsage(c.app, c.page, c.business); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func FuzzParseUsage(f *testing.F) {
	f.Add(`{"call_count":28,"total_time":25,"total_cputime":31}`, `{}`, `{"1":[{"call_count":100,"estimated_time_to_regain_access":19}]}`)
	f.Add(`{"call_count":"x"}`, `[`, `{"1":[{"estimated_time_to_regain_access":-1}]}`)
	f.Fuzz(func(t *testing.T, app, page, business string) {
		u := meta.ParseUsage(app, page, business)
		if u.Percent < 0 || u.Percent > 1000 || u.Wait < 0 || u.Wait > 24*time.Hour {
			t.Fatalf("got %+v", u)
		}
	})
}

// The headers are told beside a message that was taken, too.
func TestUsageIsHeard(t *testing.T) {
	t.Parallel()
	g := newGraph(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App-Usage", `{"call_count":81}`)
		says(200, `{"message_id":"m.1"}`)(w, r)
	})
	var heard []meta.Usage
	a := meta.Account{Token: "t0ken", Heard: func(u meta.Usage) { heard = append(heard, u) }}
	id, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Send(t.Context(), a, outgoing(t, parley.Messenger, "user:5", "x"))
	if err != nil || id != "m.1" || len(heard) != 1 || heard[0].Percent != 81 {
		t.Errorf("%q, %v; heard %+v", id, err, heard)
	}
}
