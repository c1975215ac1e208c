package parley_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The documents name tests, metrics and limits; what they name exists.
func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	source := sources(t)
	tests := regexp.MustCompile(`\bTest[A-Z]\w+`)
	metrics := regexp.MustCompile(`\bparley_([a-z]+)_(\w+)`)
	limits := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `([\\w/.]+)` \\|")
	named := 0
	for _, doc := range append(docs, "README.md") {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, name := range tests.FindAllString(text, -1) {
			if named++; !strings.Contains(source["all"], "func "+name+"(") {
				t.Errorf("%s names %s, which is no test", doc, name)
			}
		}
		for _, m := range metrics.FindAllStringSubmatch(text, -1) {
			parts := strings.Contains(source["metrics"], `"`+m[1]+`"`) && strings.Contains(source["metrics"], `"`+m[2]+`"`)
			if named++; !parts && !strings.Contains(source["metrics"], `"`+m[0]+`"`) {
				t.Errorf("%s names %s, which is no metric", doc, m[0])
			}
		}
		for _, m := range limits.FindAllStringSubmatch(text, -1) {
			folder := filepath.Clean(m[2])
			if named++; !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(source[folder]) {
				t.Errorf("%s names the limit %s of %s, which is not there", doc, m[1], folder)
			}
		}
	}
	if named < 30 {
		t.Errorf("found only %d names in %q: has the form of the documents changed?", named, docs)
	}
}

// What docs/bots-versions.md shows is compiled and run.
func TestSnippetsOfVersions(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/bots-versions.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("versions_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	for _, s := range snippets {
		if !strings.Contains(string(code), s[1]) {
			t.Errorf("not in versions_example_test.go:\n%s", s[1])
		}
	}
	if len(snippets) == 0 {
		t.Error("no snippets: has the form of the document changed?")
	}
}

// Each fuzz target has its row in docs/proof.md, and each row its target.
func TestFuzzTargetsAreListed(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/proof.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([\\w./]+)` \\| (Fuzz\\w+) \\|").FindAllStringSubmatch(string(doc), -1) {
		listed[row[1]+" "+row[2]] = true
	}
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)
	for folder, text := range sources(t) {
		if folder == "all" || folder == "metrics" {
			continue
		}
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			name := folder + " " + m[1]
			if !listed[name] {
				t.Errorf("docs/proof.md lacks %s", name)
			}
			delete(listed, name)
		}
	}
	for name := range listed {
		t.Errorf("docs/proof.md lists %s, which is no target", name)
	}
}

// sources is the text of the module's Go files: of each folder, of all files,
// and of those that declare metrics.
func sources(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]*strings.Builder{"all": {}, "metrics": {}}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		places := []string{"all", filepath.Dir(path)}
		if filepath.Base(path) == "metrics.go" {
			places = append(places, "metrics")
		}
		for _, place := range places {
			if texts[place] == nil {
				texts[place] = new(strings.Builder)
			}
			texts[place].Write(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for place, b := range texts {
		out[place] = b.String()
	}
	return out
}
