package pgserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// settings are the defaults of this package with the caller's over them.
func settings(cfg Config) map[string]string {
	all := map[string]string{
		// In the data directory, so that a crash leaves nothing elsewhere.
		"dynamic_shared_memory_type": "mmap",

		"listen_addresses":  "",
		"logging_collector": "off", // the log is the child's standard error
		"log_timezone":      "UTC",
		"max_connections":   "100",
		"shared_buffers":    "64MB",
		"timezone":          "UTC",
	}
	if cfg.TCP {
		all["listen_addresses"] = "127.0.0.1"
	}
	if !cfg.Durable {
		// Nothing more: a commit that isn't written to the system at once, or half a
		// page without the whole one in the log, is lost to a mere kill.
		all["fsync"] = "off"
	}
	maps.Copy(all, cfg.Settings)
	return all
}

// conf is the text of the settings. Where the server listens isn't up to the
// caller: it comes last, and the last line wins.
func (s *Server) conf() string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		fmt.Fprintf(&text, "%s = %s\n", name, quote(s.settings[name]))
	}
	fmt.Fprintf(&text, "unix_socket_directories = %s\nport = %d\n", quote(s.scratch), s.port)
	return text.String()
}

// quote writes a value as a string of postgresql.conf, where a backslash is an
// escape as well.
func quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`).Replace(value) + "'"
}
