package meta

import (
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Usage is how much of a quota is used up, as the provider tells beside an
// answer, in X-App-Usage, X-Page-Usage and X-Business-Use-Case-Usage (Graph API,
// rate limits): the worst of all that they say.
type Usage struct {
	Percent int           // of a quota; from 100 on calls are refused
	Wait    time.Duration // until they are taken again; 0 if they are
}

// quota is what a header tells about one quota: three shares of it, in percent.
type quota struct {
	Calls   percent `json:"call_count"`
	Time    percent `json:"total_time"`
	CPU     percent `json:"total_cputime"`
	Minutes count   `json:"estimated_time_to_regain_access"`
}

func (u *Usage) add(q quota) {
	u.Percent = max(u.Percent, int(q.Calls), int(q.Time), int(q.CPU))
	u.Wait = max(u.Wait, bounded(int(q.Minutes), time.Minute))
}

// ParseUsage reads the values of the three headers; empty is one that isn't
// there. What can't be read tells nothing: it is never a reason to take an
// answer for another than it is.
func ParseUsage(app, page, business string) Usage {
	var u Usage
	for _, header := range [...]string{app, page} {
		var q quota
		if header != "" && decodeLoosely([]byte(header), &q) == nil {
			u.add(q)
		}
	}
	var cases map[string][]quota // by the business's id
	if business != "" && decodeLoosely([]byte(business), &cases) == nil {
		for _, quotas := range cases {
			for _, q := range quotas {
				u.add(q)
			}
		}
	}
	return u
}

// maxPercent is more than any quota is overdrawn by.
const maxPercent = 1000

// percent is a share, rounded up, between 0 and maxPercent; anything else that
// is scalar counts as 0.
type percent int

// UnmarshalJSONFrom reads the next value of d.
func (p *percent) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var t text
	if err := t.UnmarshalJSONFrom(d); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(string(t), 64)
	if err != nil || !(v > 0) { // also what isn't a number
		v = 0
	}
	*p = percent(math.Ceil(min(v, maxPercent)))
	return nil
}
