package console_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parleychat/parley/console"
)

// pageMax is how many bytes the page's scripts and styles may have, gzipped.
const pageMax = 60_000

func TestPageIsSmall(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	for _, pattern := range []string{"*.js", "*.css"} {
		found, err := filepath.Glob(filepath.Join("page", "dist", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		for _, name := range found {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			z := gzip.NewWriter(&zipped)
			if _, err := z.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d bytes gzipped", zipped.Len())
	if zipped.Len() > pageMax {
		t.Errorf("%d bytes gzipped, want %d at most", zipped.Len(), pageMax)
	}
}

func TestPageIsWholeAndOfItsHostOnly(t *testing.T) {
	t.Parallel()
	page := console.Page()
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		return w
	}
	index := get("/")
	if policy := index.Header().Get("Content-Security-Policy"); index.Code != 200 || !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") || strings.Contains(policy, "unsafe") {
		t.Fatalf("status %d, policy %q", index.Code, policy)
	}
	html := index.Body.String()
	links := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1)
	if len(links) < 3 {
		t.Fatalf("the page refers to %q", links)
	}
	for _, l := range links {
		if strings.HasPrefix(l[1], "data:") {
			continue
		}
		w := get(l[1])
		text, err := io.ReadAll(w.Body)
		if err != nil || w.Code != 200 || len(text) == 0 {
			t.Errorf("%s: status %d, %d bytes, %v", l[1], w.Code, len(text), err)
		}
	}
	if w := get("/page/dist/app.js"); w.Code != 404 {
		t.Errorf("status %d of what isn't there", w.Code)
	}
}

// What is built refers to no host: the browser would refuse it, and nobody notice.
func TestPageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	address := regexp.MustCompile(`https?://[a-z0-9.-]+`)
	harmless := map[string]bool{"http://www.w3.org": true, "https://svelte.dev": true} // a namespace, and where errors are explained
	for _, name := range []string{"index.html", "app.js", "app.css"} {
		b, err := os.ReadFile(filepath.Join("page", "dist", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range address.FindAllString(string(b), -1) {
			if !harmless[found] {
				t.Errorf("%s has %s", name, found)
			}
		}
	}
}
