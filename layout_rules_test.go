package parley_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// funcLinesMax is how long a function may be, from func to its closing brace.
const funcLinesMax = 70

// vagueNames are names of packages that say nothing about what is in them.
var vagueNames = []string{
	"base", "common", "helper", "helpers", "lib", "misc", "model", "models", "shared", "type", "types", "util", "utils",
}

// machinePath finds absolute paths that only one machine has. It is written so
// that it doesn't find itself.
var machinePath = regexp.MustCompile("(?m)(?:^|[\\s\"'`(=:,])/(?:work|root|home|Users)/[A-Za-z0-9_.]")

type file struct{ path, text string }

// source is a parsed Go file and where it stands.
type source struct {
	path, folder string
	test         bool // a _test.go file
	set          *token.FileSet
	ast          *ast.File
}

// testing says whether the file is test code: a _test.go file, or part of a
// package whose name says that it holds tests.
func (s source) testing() bool {
	return s.test || strings.HasSuffix(path.Base(s.folder), "test")
}

// layoutProblems holds files to every rule of the layout, and says of each
// breach where it is and what to do.
func layoutProblems(files []file) []string {
	var problems []string
	documented := map[string]bool{} // folder with Go code -> has a package comment
	for _, f := range files {
		problems = append(problems, pathProblems(f)...)
		if !strings.HasSuffix(f.path, ".go") {
			continue
		}
		src, err := parseSource(f)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		problems = append(problems, folderProblems(src)...)
		problems = append(problems, importProblems(src)...)
		problems = append(problems, lengthProblems(src)...)
		if !src.test {
			documented[src.folder] = documented[src.folder] || isPackageComment(src.ast)
		}
	}
	for folder, ok := range documented {
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: no package comment; say what the package is for, above the package clause of one of its files", folder))
		}
	}
	slices.Sort(problems)
	return slices.Compact(problems)
}

func parseSource(f file) (source, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, f.path, f.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, fmt.Errorf("parse: %w", err)
	}
	return source{path: f.path, folder: path.Dir(f.path), test: strings.HasSuffix(f.path, "_test.go"), set: set, ast: parsed}, nil
}

func pathProblems(f file) []string {
	at := machinePath.FindStringIndex(f.text)
	if at == nil || strings.ContainsRune(f.text, 0) {
		return nil
	}
	line := 1 + strings.Count(f.text[:at[1]], "\n")
	return []string{fmt.Sprintf("%s:%d: an absolute path of one machine; write it relative to the repository, or take it from the environment", f.path, line)}
}

func folderProblems(s source) []string {
	var problems []string
	name := strings.TrimSuffix(s.ast.Name.Name, "_test")
	if slices.Contains(vagueNames, name) || slices.Contains(vagueNames, path.Base(s.folder)) {
		problems = append(problems, fmt.Sprintf("%s: the name says nothing; put the code where it is used, or name the package after what it holds", s.folder))
	}
	if _, ok := rowOf(packages, s.folder); !ok {
		problems = append(problems, fmt.Sprintf("%s: a package that is not in the layout; put the code in one that is, or decide on it and add a row to packages in layout_test.go", s.folder))
	}
	return problems
}

func importProblems(s source) []string {
	var problems []string
	for _, spec := range s.ast.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			err = importError(s, target)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s:%d: %v", s.path, s.set.Position(spec.Pos()).Line, err))
		}
	}
	return problems
}

func importError(s source, target string) error {
	ours, isOurs := strings.CutPrefix(target+"/", module+"/")
	first, _, _ := strings.Cut(target, "/")
	switch {
	case isOurs:
		return ourImportError(s, path.Clean(ours))
	case strings.Contains(first, "."):
		return libraryError(s, target)
	case target == "testing" && !s.testing():
		return fmt.Errorf("testing outside of tests; move this to a _test.go file or to a package named …test")
	}
	return nil
}

// ourImportError holds an import of ours to the table. A package's own tests
// may import it, and some more.
func ourImportError(s source, target string) error {
	allowed, _ := rowOf(packages, s.folder)
	if s.test {
		more, _ := rowOf(testRows, s.folder)
		allowed = slices.Concat(allowed, testImports, more, []string{s.folder})
	}
	if matches(allowed, target) {
		return nil
	}
	return fmt.Errorf("%s may not import %s; speak in words of the root package and declare the interface here, or decide on it and change its row in layout_test.go", s.folder, target)
}

// libraryError holds an import of an outside library to the table. The longest
// row that matches counts.
func libraryError(s source, target string) error {
	row := ""
	for prefix := range libraries {
		if (target == prefix || strings.HasPrefix(target, prefix+"/")) && len(prefix) > len(row) {
			row = prefix
		}
	}
	lib := libraries[row]
	switch {
	case row == "":
		return fmt.Errorf("library %s is not in the layout; do without, or decide on it and add a row to libraries in layout_test.go", target)
	case lib.tests && !s.testing():
		return fmt.Errorf("library %s is for tests only", row)
	case s.folder == "." && !s.test:
		return fmt.Errorf("the root package imports the standard library only, not %s", row)
	case s.testing() && matches(lib.testHomes, s.folder):
		return nil
	case !matches(lib.homes, s.folder):
		return fmt.Errorf("library %s is at home in %s, not in %s; call what that package offers, or decide on it and change the row in layout_test.go", row, strings.Join(lib.homes, ", "), s.folder)
	}
	return nil
}

// rowOf finds the row of a folder: its own, or else that of a pattern.
func rowOf(rows map[string][]string, folder string) ([]string, bool) {
	if row, ok := rows[folder]; ok {
		return row, true
	}
	for pattern, row := range rows {
		if ok, err := path.Match(pattern, folder); err == nil && ok {
			return row, true
		}
	}
	return nil, false
}

func matches(patterns []string, folder string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, folder)
		return p == "all" || err == nil && ok
	})
}

func lengthProblems(s source) []string {
	if ast.IsGenerated(s.ast) {
		return nil
	}
	var problems []string
	for _, decl := range s.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		start, end := s.set.Position(fn.Pos()).Line, s.set.Position(fn.End()).Line
		if lines := end - start + 1; lines > funcLinesMax {
			problems = append(problems, fmt.Sprintf("%s:%d: %s has %d lines; %d are enough", s.path, start, fn.Name.Name, lines, funcLinesMax))
		}
	}
	return problems
}

func isPackageComment(f *ast.File) bool {
	first := "Package " + f.Name.Name + " "
	if f.Name.Name == "main" {
		first = "Command "
	}
	return strings.HasPrefix(f.Doc.Text(), first)
}

// TestLayoutRules shows for each rule a small tree that breaks it.
func TestLayoutRules(t *testing.T) {
	t.Parallel()
	goFile := func(name, imports string) file {
		pkg := path.Base(path.Dir(name))
		return file{name, "// Package " + pkg + " is an example.\npackage " + pkg + "\n\nimport (\n" + imports + ")\n"}
	}
	root := "\"" + module + "\"\n"
	for _, c := range []struct {
		name string
		file file
		want string // part of the one problem; none if empty
	}{
		{"root may be imported", goFile("ingress/a.go", root), ""},
		{"meta by ingress", goFile("ingress/a.go", `"`+module+`/meta"`+"\n"), ""},
		{"stage by stage", goFile("ingress/a.go", `"`+module+`/actors"`+"\n"), "ingress/a.go:5: ingress may not import actors"},
		{"cluster knows nothing of ours", goFile("cluster/a.go", root), "cluster may not import ."},
		{"cmd has only node", goFile("cmd/parley/a.go", root), "cmd/parley may not import ."},
		{"tests may use the fakes", goFile("egress/a_test.go", `"`+module+`/persistence/memory"`+"\n"), ""},
		{"code may not", goFile("egress/a.go", `"`+module+`/persistence/memory"`+"\n"), "egress may not import persistence/memory"},
		{"simulated Meta in a package", goFile("actors/a.go", `"`+module+`/meta/metatest"`+"\n"), "actors may not import meta/metatest"},
		{"library at home", goFile("meta/a.go", `"github.com/valyala/fasthttp"`+"\n"), ""},
		{"part of a library at home", goFile("actors/a.go", `"github.com/asynkron/protoactor-go/actor"`+"\n"), ""},
		{"library abroad", goFile("egress/a.go", `"github.com/valyala/fasthttp"`+"\n"), "at home in ingress"},
		{"name that only begins like one", goFile("meta/a.go", `"github.com/valyala/fasthttpx"`+"\n"), "not in the layout"},
		{"library in the root", file{"a.go", "// Package parley is an example.\npackage parley\n\nimport \"github.com/prometheus/client_golang/prometheus\"\n"}, "standard library only"},
		{"new library", goFile("node/a.go", `"example.com/left/pad"`+"\n"), "library example.com/left/pad is not in the layout"},
		{"library of a package's tests", goFile("persistence/pgserver/a_test.go", `"github.com/jackc/pgx/v5"`+"\n"), ""},
		{"that library in its code", goFile("persistence/pgserver/a.go", `"github.com/jackc/pgx/v5"`+"\n"), "at home in persistence/postgres"},
		{"test library in code", goFile("node/a.go", `"pgregory.net/rapid"`+"\n"), "for tests only"},
		{"test library in a test", goFile("node/a_test.go", `"pgregory.net/rapid"`+"\n"), ""},
		{"test library in a package of tests", goFile("persistence/storetest/a.go", `"pgregory.net/rapid"`+"\n"), ""},
		{"testing in code", goFile("node/a.go", `"testing"`+"\n"), "testing outside of tests"},
		{"new package", goFile("queue/a.go", ""), "queue: a package that is not in the layout"},
		{"vague package", goFile("util/a.go", ""), "util: the name says nothing"},
		{"no package comment", file{"node/a.go", "package node\n"}, "node: no package comment"},
		{"comment that isn't about the package", file{"node/a.go", "// Copyright.\npackage node\n"}, "node: no package comment"},
		{"command", file{"cmd/parley/a.go", "// Command parley runs.\npackage main\n"}, ""},
		{"long function", file{"node/a.go", "// Package node is.\npackage node\n\nfunc f() {" + strings.Repeat("\n", funcLinesMax) + "}\n"}, "node/a.go:4: f has 71 lines"},
		{"function of the full length", file{"node/a.go", "// Package node is.\npackage node\n\nfunc f() {" + strings.Repeat("\n", funcLinesMax-1) + "}\n"}, ""},
		{"long function of a generator", file{"node/a.go", "// Code generated by x. DO NOT EDIT.\n\n// Package node is.\npackage node\n\nfunc f() {" + strings.Repeat("\n", funcLinesMax) + "}\n"}, ""},
		{"path of a machine", file{"docs/a.md", "one\ntwo `/" + "home/me/parley`\n"}, "docs/a.md:2: an absolute path"},
		{"path in a URL", file{"docs/a.md", "https://example.com/" + "home/me\n"}, ""},
		{"broken file", file{"node/a.go", "package"}, "parse:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := layoutProblems([]file{c.file})
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("got %q, want no problem", got)
			case c.want != "" && !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, c.want) }):
				t.Errorf("got %q, want one with %q", got, c.want)
			}
		})
	}
}
