package meta

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// The provider's scalars come in several spellings: ids as strings or numbers
// or null, numbers and flags as strings, times in seconds or milliseconds. The
// types of this file accept them all and nothing else.

// text is an id: a string, or a number with its digits kept exactly, or null.
// Other kinds are a wrong shape.
type text string

// UnmarshalJSONFrom reads the next value of d.
func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch k := d.PeekKind(); k {
	case '"', '0':
		tok, err := d.ReadToken()
		if err == nil {
			*t = text(tok.String())
		}
		return err
	case 'n':
		*t = ""
		return d.SkipValue()
	default:
		return skipWrong(d, "a string or a number")
	}
}

// count is a number that is nice to know: an integer, or one in a string.
// Anything else that is scalar counts as 0.
type count int

// UnmarshalJSONFrom reads the next value of d.
func (c *count) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var t text
	if err := t.UnmarshalJSONFrom(d); err != nil {
		return err
	}
	n, err := strconv.Atoi(string(t))
	if err != nil {
		n = 0 // a placeholder of somebody's test; no reason to lose the update
	}
	*c = count(n)
	return nil
}

// flag is true, "true" or 1; any other scalar is false.
type flag bool

// UnmarshalJSONFrom reads the next value of d.
func (f *flag) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch k := d.PeekKind(); k {
	case 't', 'f', 'n', '"', '0':
		tok, err := d.ReadToken()
		if err == nil {
			s := tok.String()
			*f = flag(s == "true" || s == "1")
		}
		return err
	default:
		return skipWrong(d, "true or false")
	}
}

// degrees is a coordinate: a number, or one in a string. Known says that it
// was there and could be read.
type degrees struct {
	value float64
	known bool
}

// UnmarshalJSONFrom reads the next value of d.
func (g *degrees) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var t text
	if err := t.UnmarshalJSONFrom(d); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(string(t), 64)
	g.value, g.known = v, err == nil && v >= -360 && v <= 360 // not NaN either
	return nil
}

// The lengths by which seconds and milliseconds are told apart: of the times
// between 2001 and 2286 the one always has 10 digits, the other 13.
const (
	secondsDigits = 10
	millisDigits  = 13
)

// parseTime reads seconds or milliseconds since 1970. Whatever is not one of
// the two is the zero time: an event with a bad clock is still an event.
func parseTime(t text) time.Time {
	digits := strings.TrimSpace(string(t))
	if len(digits) != secondsDigits && len(digits) != millisDigits || digits[0] == '0' {
		return time.Time{}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	switch {
	case err != nil:
		return time.Time{}
	case len(digits) == secondsDigits:
		return time.Unix(int64(n), 0).UTC()
	}
	return time.UnixMilli(int64(n)).UTC()
}

// A shapeError says that a value is of a kind that its place can't have.
type shapeError struct {
	want string
	got  jsontext.Kind
}

func (e *shapeError) Error() string { return "want " + e.want + ", got " + kindName(e.got) }

// skipWrong skips the next value, so that the decoder stands behind it.
func skipWrong(d *jsontext.Decoder, want string) error {
	err := &shapeError{want: want, got: d.PeekKind()}
	if skip := d.SkipValue(); skip != nil {
		return skip
	}
	return err
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "nothing"
}
