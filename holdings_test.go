package parley_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// oneOfEach is holdings with one item of each kind, all of whose fields are set.
func oneOfEach(t *testing.T) *parley.Holdings {
	t.Helper()
	h := &parley.Holdings{}
	v := reflect.ValueOf(h).Elem()
	for _, f := range v.Fields() {
		if f.Kind() == reflect.Slice {
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		}
	}
	n := 0
	eachField(v, "", func(_ string, f reflect.Value) {
		n++
		fill(f, n)
	})
	return h
}

// eachField calls do for all fields, those of fields too. A slice within an item
// gets one element.
func eachField(v reflect.Value, path string, do func(path string, field reflect.Value)) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time](), v.Kind() == reflect.Array, v.Type() == reflect.TypeFor[[]byte](), v.Type() == reflect.TypeFor[json.RawMessage]():
		do(path, v)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		eachField(v.Elem(), path, do)
	case v.Kind() == reflect.Struct:
		for field, f := range v.Fields() {
			eachField(f, path+"."+field.Name, do)
		}
	case v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		eachField(v.Index(0), path, do)
	case v.Kind() != reflect.Interface:
		do(path, v)
	}
}

// fill gives a field its nth value.
func fill(f reflect.Value, n int) {
	switch f.Interface().(type) {
	case time.Time:
		f.Set(reflect.ValueOf(time.UnixMilli(int64(n)).UTC()))
		return
	case []byte, json.RawMessage: // a number is JSON
		f.SetBytes(fmt.Append(nil, n))
		return
	}
	switch f.Kind() { //nolint:exhaustive // there are no others
	case reflect.String:
		f.SetString(fmt.Sprint(n))
	case reflect.Bool:
		f.SetBool(n%2 == 0)
	case reflect.Int, reflect.Int64:
		f.SetInt(int64(n))
	case reflect.Uint64:
		f.SetUint(uint64(n))
	case reflect.Float64:
		f.SetFloat(float64(n))
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Array:
		f.Index(0).SetUint(uint64(n % 256))
	default:
		panic(f.Type())
	}
}

func tally(parts ...*parley.Holdings) (t parley.Tally) {
	for _, h := range parts {
		t.Add(h)
	}
	return t
}

// TestTallySeesEveryField: whatever is changed of an item, the tally of its kind
// is another, and those of the other kinds are not.
func TestTallySeesEveryField(t *testing.T) {
	t.Parallel()
	h := oneOfEach(t)
	want := tally(h)
	for i, name := range parley.HoldingKinds() {
		if want[i].Items != 1 {
			t.Errorf("%s: %d items", name, want[i].Items)
		}
	}
	fields := 0
	eachField(reflect.ValueOf(h).Elem(), "", func(path string, f reflect.Value) {
		if path == ".Numbers" { // stands beside the items
			return
		}
		fields++
		was := reflect.New(f.Type()).Elem()
		was.Set(f)
		fill(f, 1001)
		if f.Kind() == reflect.Bool {
			f.SetBool(!was.Bool())
		}
		if f.Kind() == reflect.Pointer {
			f.SetZero()
		}
		got := tally(h)
		f.Set(was)
		changed := 0
		for i := range got {
			if got[i] != want[i] {
				changed++
			}
		}
		if changed != 1 || got.Digest() == want.Digest() {
			t.Errorf("%s: %d kinds have another tally", path, changed)
		}
	})
	if fields < 90 || tally(h) != want {
		t.Errorf("%d fields were looked at", fields)
	}
}

// TestTallyInAnyOrder: neither order nor parts matter, and nothing may be missing
// or come twice.
func TestTallyInAnyOrder(t *testing.T) {
	t.Parallel()
	record := func(n uint64) parley.Record { return parley.Record{Version: n, Data: []byte("x")} }
	all := &parley.Holdings{History: []parley.Record{record(1), record(2), record(3)}}
	want := tally(all)
	slices.Reverse(all.History)
	if tally(all) != want {
		t.Error("another order is another tally")
	}
	if got := tally(&parley.Holdings{History: all.History[:1]}, &parley.Holdings{}, &parley.Holdings{History: all.History[1:]}); got != want {
		t.Error("in parts it is another tally")
	}
	if n, kind := all.Items(); n != 3 || kind != "history" || want.Items() != 3 {
		t.Errorf("%d items, the last of %s; the tally has %d", n, kind, want.Items())
	}
	for _, other := range [][]parley.Record{all.History[1:], append(all.History[:2:2], record(2)), append(slices.Clone(all.History), record(1))} {
		if tally(&parley.Holdings{History: other}) == want {
			t.Errorf("%d records have the tally of others", len(other))
		}
	}
}
