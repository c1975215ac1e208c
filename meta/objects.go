package meta

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// joinObjects is one JSON object with the members of both; nil if there are
// none. Where both have a member of a name, both stay.
func joinObjects(a, b []byte) []byte {
	a, b = inner(a), inner(b)
	switch {
	case len(a) == 0 && len(b) == 0:
		return nil
	case len(a) > 0 && len(b) > 0:
		a = append(append(slices.Clip(a), ','), b...)
	case len(b) > 0:
		a = b
	}
	return append(append([]byte{'{'}, a...), '}')
}

// inner is what is between the braces of an object.
func inner(object []byte) []byte {
	object = bytes.TrimSpace(object)
	if len(object) < len("{}") || object[0] != '{' {
		return nil
	}
	return bytes.TrimSpace(object[1 : len(object)-1])
}

// member is an object with one member, nil if the value is absent or null.
func member(name string, value jsontext.Value) []byte {
	if rawOrNil(value) == nil {
		return nil
	}
	b := append(appendString([]byte{'{'}, name), ':')
	return append(append(b, value...), '}')
}

// firstName is the name of the first member, in order of names, that holds an
// object, or of the first at all; empty
// without any. It is what an update of an unknown type calls itself.
func firstName(object jsontext.Value) string {
	if len(object) == 0 {
		return ""
	}
	var members map[string]jsontext.Value
	if decodeLoosely(object, &members) != nil {
		return ""
	}
	names := sortedNames(members)
	for _, name := range names {
		if members[name].Kind() == '{' && len(name) <= maxFieldBytes {
			return name
		}
	}
	if len(names) == 0 || len(names[0]) > maxFieldBytes {
		return ""
	}
	return names[0]
}

func sortedNames(members map[string]jsontext.Value) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func tooLong(n, limit int) error { return fmt.Errorf("%d bytes: at most %d", n, limit) }
