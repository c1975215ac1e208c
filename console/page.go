package console

import (
	"embed"
	"io/fs"
	"net/http"
)

// pageFiles are what make page builds from page/, under names that stay.
//
//go:embed page/dist
var pageFiles embed.FS

// pagePolicy lets a page load nothing and talk to nobody but where it comes from.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Page serves the web page at /. It is a client of the admin API at /api/, and of what
// parley dev has at /dev/, both of the host that it comes from.
func Page() http.Handler {
	files, err := fs.Sub(pageFiles, "page/dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		server.ServeHTTP(w, r)
	})
}
