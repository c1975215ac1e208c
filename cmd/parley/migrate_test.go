package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// An empty database gets its schema by a command, and says what it has.
func TestMigrate(t *testing.T) {
	t.Parallel()
	url := private(t).URL("postgres")
	h := newHouse(t)
	config := h.configure(t, configured("http://127.0.0.1:1").on(t, h, url))
	place := "file:" + h.write(t, "place", url)
	status := func(pending bool) {
		t.Helper()
		e := run(t, "", "migrate", "status", "-c", config)
		e.want(t, 0)
		if !regexp.MustCompile(`(?m)^version +name +applied$`).MatchString(e.out) || !regexp.MustCompile(`(?m)^1 +\w`).MatchString(e.out) {
			t.Errorf("no table of steps:\n%s", e.out)
		}
		if strings.Contains(e.out, "pending; run: parley migrate up") != pending {
			t.Errorf("pending is not %t:\n%s", pending, e.out)
		}
	}
	status(true)
	if e := run(t, "", "migrate", "up", "-c", config); e.code != 0 || !strings.Contains(e.out, "made step 1") {
		t.Errorf("up: code %d\n%s%s", e.code, e.out, e.errors)
	}
	status(false)
	if e := run(t, "", "migrate", "up", "--database", place); e.code != 0 || !strings.Contains(e.out, "nothing to do") {
		t.Errorf("up once more: code %d\n%s%s", e.code, e.out, e.errors)
	}
}

// What a person can do about it is in the error, and the password is not.
func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	embedded := h.configure(t, configured("http://127.0.0.1:1"))
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"Embedded":   {[]string{"-c", embedded}, "not postgres"},
		"NoFile":     {[]string{"-c", h.dir + "/none.yaml"}, "none.yaml"},
		"Literal":    {[]string{"--database", "postgres://u:secretword@h/d"}, "env:NAME or file:PATH"},
		"NoDatabase": {[]string{"--database", "file:" + h.write(t, "nobody", "postgres://u:secretword@127.0.0.1:1/d")}, "refused"},
		"Malformed":  {[]string{"--database", "file:" + h.write(t, "malformed", "postgres://u:secretword@[::1")}, "connection string"},
	} {
		for _, verb := range []string{"up", "status"} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				t.Parallel()
				e := run(t, "", append([]string{"migrate", verb}, row.args...)...)
				e.want(t, 1, row.want)
				if strings.Contains(e.errors+e.out, "secretword") {
					t.Error("the password is shown")
				}
			})
		}
	}
}
