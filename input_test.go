package parley_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// inputTypes are the types of input.go and their kinds, as its source has them:
// what this file tests is complete, or TestEveryInputIsHere says what is missing.
func inputTypes(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "input.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != "Kind" {
			continue
		}
		recv, ok := f.Recv.List[0].Type.(*ast.Ident)
		if !ok {
			t.Fatalf("Kind of %T: inputs are values", f.Recv.List[0].Type)
		}
		ret, ok := f.Body.List[0].(*ast.ReturnStmt)
		if !ok {
			t.Fatalf("Kind of %s does more than return its name", recv.Name)
		}
		lit, ok := ret.Results[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("the kind of %s is not a literal", recv.Name)
		}
		kind, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		kinds[recv.Name] = kind
	}
	return kinds
}

// inputs are one of each kind.
func inputs() []parley.Input {
	return []parley.Input{
		parley.Message{},
		parley.Postback{},
		parley.Edited{},
		parley.Deleted{},
		parley.Reaction{},
		parley.Referred{},
		parley.OptIn{},
		parley.Preference{},
		parley.AccountLink{},
		parley.ThreadControl{},
		parley.Echo{},
		parley.Overheard{},
		parley.Comment{},
		parley.Lead{},
		parley.PhoneCall{},
		parley.ContactChanged{},
		parley.Notice{},
		parley.Unknown{},
		parley.TimerFired{},
		parley.SendFailed{},
		parley.Called{},
		parley.SpeakerReturned{},
	}
}

func TestEveryInputIsHere(t *testing.T) {
	t.Parallel()
	types, kinds := inputTypes(t), map[string]string{}
	for _, in := range inputs() {
		name := reflect.TypeOf(in).Name()
		if types[name] != in.Kind() {
			t.Errorf("%s is of kind %q, its source says %q", name, in.Kind(), types[name])
		}
		delete(types, name)
		if other, ok := kinds[in.Kind()]; ok {
			t.Errorf("%s and %s have the same kind %q", name, other, in.Kind())
		}
		kinds[in.Kind()] = name
	}
	for name, kind := range types {
		t.Errorf("%s of kind %q is missing in inputs()", name, kind)
	}
}

// The kinds are stored: a Go type may be renamed, these never.
func TestKindsAreStoredFormat(t *testing.T) {
	t.Parallel()
	var got []string
	for _, in := range inputs() {
		got = append(got, in.Kind())
	}
	diff(t, "kinds", []string{
		"message", "postback", "edited", "deleted", "reaction", "referred", "opt_in", "preference", "account_link",
		"thread_control", "echo", "overheard", "comment", "lead", "phone_call", "contact_changed", "notice", "unknown",
		"timer_fired", "send_failed", "called", "speaker_returned",
	}, got)
	var effects []string
	for _, e := range []parley.Effect{
		parley.Send{},
		parley.SetTimer{},
		parley.CancelTimer{},
		parley.Become{},
		parley.End{},
		parley.Call{},
		parley.CancelCall{},
		parley.HandOff{},
		parley.Resume{},
		parley.SetAttribute{},
		parley.Tag{},
		parley.Untag{},
	} {
		effects = append(effects, e.EffectKind())
	}
	diff(t, "effects", []string{
		"send", "set_timer", "cancel_timer", "become", "end",
		"call", "cancel_call", "hand_off", "resume", "set_attribute", "tag", "untag",
	}, effects)
}

func TestInputStoredForm(t *testing.T) {
	t.Parallel()
	for stored, in := range map[string]parley.Input{
		`{"kind":"message","input":{}}`:                                                parley.Message{},
		`{"kind":"message","input":{"id":"m","text":"hi","from":"user:1"}}`:            parley.Message{ID: "m", Text: "hi", From: "user:1"},
		`{"kind":"deleted","input":{"id":"m"}}`:                                        parley.Deleted{ID: "m"},
		`{"kind":"unknown","input":{"object":"o","raw":{"a":[1e999,"\u0000\ud800"]}}}`: parley.Unknown{Object: "o", Raw: json.RawMessage(`{"a":[1e999,"\u0000\ud800"]}`)},
		`{"kind":"timer_fired","input":{"name":"n","generation":7,"due":"2026-03-01T12:00:00Z"}}`: parley.TimerFired{
			Name: "n", Generation: 7, Due: after(0),
		},
	} {
		data, err := parley.EncodeInput(in)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "encoded", stored, string(data))
		back, err := parley.DecodeInput([]byte(stored))
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "decoded", in, back)
	}
}

// invent fills every exported field of v with something.
func invent(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case json.RawMessage:
		v.SetBytes([]byte(rapid.SampledFrom([]string{
			`{"a":1}`, `[]`, `"<&>"`, `-0.5e-300`, `123456789012345678901234567890`, `{"b":{"b":"\u0000"}}`,
		}).Draw(t, "raw")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(after(time.Duration(rapid.Int64Range(0, math.MaxInt32).Draw(t, "ms")) * time.Millisecond)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.StringN(1, 20, -1).Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(rapid.Int64Range(1, math.MaxInt64).Draw(t, "int"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "byte")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64Min(1).Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(-180, 180).Draw(t, "degrees"))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		invent(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(1, 3).Draw(t, "items"), 3))
		inventItems(t, v)
	case reflect.Array:
		inventItems(t, v)
	case reflect.Struct:
		for _, field := range v.Fields() {
			invent(t, field)
		}
	default:
		t.Fatalf("no idea how to invent a %s", v.Type())
	}
}

func inventItems(t *rapid.T, v reflect.Value) {
	for i := range v.Len() {
		invent(t, v.Index(i))
	}
}

// sameJSON compares raw JSON by what it says: the stored form may escape and
// space it in another way.
func sameJSON(raw json.RawMessage) any {
	var v any
	if len(raw) == 0 {
		return nil // where the field is required, nothing is stored as null
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	return v
}

func TestInputRoundTrip(t *testing.T) {
	t.Parallel()
	for _, in := range inputs() {
		t.Run(in.Kind(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(reflect.TypeOf(in)).Elem()
				if rapid.IntRange(0, 9).Draw(t, "empty") > 0 {
					invent(t, v)
				}
				want, ok := reflect.TypeAssert[parley.Input](v)
				if !ok {
					t.Fatalf("%s is no input", v.Type())
				}
				data, err := parley.EncodeInput(want)
				if err != nil {
					t.Fatal(err)
				}
				got, err := parley.DecodeInput(data)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got, cmp.Transformer("json", sameJSON)); d != "" {
					t.Fatalf("through %s (-want +got):\n%s", data, d)
				}
			})
		})
	}
}

func TestDecodeInputRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		data  string
		newer bool
	}{
		{`{"kind":"telepathy","input":{}}`, true},
		{`{}`, true},
		{``, false},
		{`{"kind":"message"}`, false},
		{`{"kind":"message","input":{"text":7}}`, false},
		{`{"kind":"message","input":[]}`, false},
		{`[]`, false},
	} {
		in, err := parley.DecodeInput([]byte(c.data))
		if err == nil {
			t.Errorf("%s was read as %+v", c.data, in)
		}
		if got := errors.Is(err, parley.ErrFormat); got != c.newer {
			t.Errorf("%s: %v; of a newer format: %t", c.data, err, got)
		}
	}
}

func TestEncodeInputRefuses(t *testing.T) {
	t.Parallel()
	if data, err := parley.EncodeInput(parley.Notice{Raw: json.RawMessage(`{`)}); err == nil {
		t.Errorf("raw JSON that isn't became %s", data)
	}
}

func FuzzDecodeInput(f *testing.F) {
	for _, in := range inputs() {
		data, err := parley.EncodeInput(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := parley.DecodeInput(data)
		if err != nil {
			return
		}
		once, err := parley.EncodeInput(in)
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		in, err = parley.DecodeInput(once)
		if err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		twice, err := parley.EncodeInput(in)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "written again", string(once), string(twice))
	})
}

func BenchmarkDecodeInput(b *testing.B) {
	data, err := parley.EncodeInput(parley.Message{ID: "mid.1", Text: strings.Repeat("hello ", 20)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parley.DecodeInput(data); err != nil {
			b.Fatal(err)
		}
	}
}

// TestUsualMessageIsReadCheaply: encoding/json would take three times as many
// allocations. What it would read otherwise is left to it: see FuzzInputPaths.
func TestUsualMessageIsReadCheaply(t *testing.T) { //nolint:paralleltest // it counts what is allocated
	data, err := parley.EncodeInput(parley.Message{ID: "mid.1", Text: "zwölf Uhr 🕛", Payload: "NOON"})
	if err != nil {
		t.Fatal(err)
	}
	const most = 4 // three strings, and the message
	if n := testing.AllocsPerRun(100, func() {
		if _, err := parley.DecodeInput(data); err != nil {
			t.Error(err)
		}
	}); n > most {
		t.Errorf("%g allocations to read %s, want at most %d", n, data, most)
	}
}
