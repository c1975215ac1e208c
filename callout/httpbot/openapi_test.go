package httpbot_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley/callout/httpbot"
)

// schema is as much of a schema as is compared.
type schema struct {
	Required   []string
	Properties map[string]struct{ Enum []string }
}

// TestOpenAPI: the description has the fields and the effects that there are.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/http-bots.openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct{ Schemas map[string]schema }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{"Request": httpbot.Request{}, "Conversation": httpbot.Conversation{}, "Answer": httpbot.Answer{}} {
		s := doc.Components.Schemas[name]
		typ := reflect.TypeOf(v)
		if typ.NumField() != len(s.Properties) {
			t.Errorf("%s has %d fields, described are %d", name, typ.NumField(), len(s.Properties))
		}
		for f := range typ.Fields() {
			field, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			if _, ok := s.Properties[field]; !ok {
				t.Errorf("%s.%s is not described", name, field)
			}
			if name != "Answer" && slices.Contains(s.Required, field) == (option == "omitempty") {
				t.Errorf("%s.%s: required as described, and %q", name, field, option)
			}
		}
	}
	names := doc.Components.Schemas["Effect"].Properties["effect"].Enum
	if len(names) == 0 {
		t.Error("no effects are described")
	}
	for _, effect := range names {
		if _, effects, err := httpbot.Decode([]byte(`{"effects":[{"effect":"` + effect + `"}]}`)); err != nil || len(effects) != 1 {
			t.Errorf("%s is described, and refused: %v", effect, err)
		}
	}
}
