package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// LanguageAttribute is the attribute of a contact that names their language.
const LanguageAttribute = "language"

// Messages are a bot's texts: language ("de", "pt-BR"), then key, then text. A text has
// places for parameters, and for forms that depend on a number:
//
//	"{name}, you have {n} {n|message|messages}."
//
// The forms stand in the order of the language's plural categories (Plurals): in
// English one and other, in Polish one, few and many, in Japanese there is one. Braces
// of the text itself are doubled.
//
// The texts of the flow's own language are the complete ones. A text that another
// language lacks is taken from there, and Missing names it.
type Messages map[string]map[string]string

// Args are the parameters of a text.
type Args map[string]any

// ReadMessages reads a catalogue: each "de.json" of a folder holds the texts of a
// language as an object of strings. With go:embed the files are part of the program.
func ReadMessages(folder fs.FS) (Messages, error) {
	names, err := fs.Glob(folder, "*.json")
	if err != nil {
		return nil, fmt.Errorf("list the catalogue: %w", err)
	}
	m := make(Messages, len(names))
	for _, name := range names {
		texts, err := readTexts(folder, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m[strings.TrimSuffix(path.Base(name), ".json")] = texts
	}
	return m, nil
}

func readTexts(folder fs.FS, name string) (map[string]string, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, MaxCatalogueBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(b) > MaxCatalogueBytes {
		return nil, fmt.Errorf("more than %d bytes (MaxCatalogueBytes)", MaxCatalogueBytes)
	}
	var texts map[string]string
	if err := json.Unmarshal(b, &texts); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return texts, nil
}

// Missing names the texts that a language lacks and another has: "de: greeting". They
// are no error when a bot runs; a bot's test asks for them.
func (m Messages) Missing() []string {
	keys := map[string]bool{}
	for _, texts := range m {
		for key := range texts {
			keys[key] = true
		}
	}
	var missing []string
	for language, texts := range m {
		for key := range keys {
			if _, ok := texts[key]; !ok {
				missing = append(missing, language+": "+key)
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// catalogue is Messages that are sound.
type catalogue struct {
	language string                         // the flow's own
	texts    map[string]map[string]template // key, then language
	chosen   map[string]bool                // the languages
}

// compile reads the texts. Each other language's texts may have no parameter that the
// flow's own doesn't have.
func (m Messages) compile(language string) (catalogue, error) {
	c := catalogue{language: language, texts: map[string]map[string]template{}, chosen: map[string]bool{}}
	if len(m) == 0 {
		return c, nil
	}
	if _, ok := m[language]; !ok {
		return c, fmt.Errorf("messages: none in the flow's own Language %q", language)
	}
	var errs []error
	for _, lang := range slices.Sorted(maps.Keys(m)) {
		c.chosen[lang] = true
		for _, key := range slices.Sorted(maps.Keys(m[lang])) {
			t, err := parseTemplate(m[lang][key], len(Plurals(lang)))
			if err != nil {
				errs = append(errs, fmt.Errorf("messages: %s: %s: %w", lang, key, err))
			}
			if c.texts[key] == nil {
				c.texts[key] = map[string]template{}
			}
			c.texts[key][lang] = t
		}
	}
	return c, errors.Join(append(errs, c.check())...)
}

func (c *catalogue) check() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(c.texts)) {
		own, ok := c.texts[key][c.language]
		if !ok {
			errs = append(errs, fmt.Errorf("messages: %s is not in the flow's own language %s", key, c.language))
			continue
		}
		for _, lang := range slices.Sorted(maps.Keys(c.texts[key])) {
			for _, p := range c.texts[key][lang] {
				if p.name != "" && !own.has(p.name) {
					errs = append(errs, fmt.Errorf("messages: %s: %s: a parameter {%s} that %s has not", lang, key, p.name, c.language))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// choose is the language of the catalogue that is nearest to a wish: itself, what it
// is a kind of, or the flow's own.
func (c *catalogue) choose(wish string) string {
	for wish != "" {
		if c.chosen[wish] {
			return wish
		}
		wish = wish[:max(0, strings.LastIndexAny(wish, "-_"))]
	}
	return c.language
}

func (c *catalogue) text(language, key string, args []Args) (string, error) {
	texts, ok := c.texts[key]
	if !ok {
		return "", fmt.Errorf("text %q: not in the catalogue", key)
	}
	t, ok := texts[language]
	if !ok {
		t, language = texts[c.language], c.language
	}
	text, err := t.fill(language, args)
	if err != nil {
		return "", fmt.Errorf("text %q: %w", key, err)
	}
	return text, nil
}

// template is a text with places.
type template []part

// part is words, or a place: for a parameter, or for one of several forms.
type part struct {
	words string
	name  string
	forms []string
}

func (t template) has(name string) bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.name == name })
}

func parseTemplate(text string, plurals int) (template, error) {
	if len(text) > MaxTemplateBytes {
		return nil, fmt.Errorf("text of %d bytes: at most %d (MaxTemplateBytes)", len(text), MaxTemplateBytes)
	}
	var t template
	words := ""
	for text != "" {
		i := strings.IndexAny(text, "{}")
		if i < 0 {
			words += text
			break
		}
		words += text[:i]
		if strings.HasPrefix(text[i:], "{{") || strings.HasPrefix(text[i:], "}}") {
			words, text = words+text[i:i+1], text[i+2:]
			continue
		}
		end := strings.IndexByte(text[i:], '}')
		if text[i] == '}' || end < 0 {
			return nil, errors.New("a brace without its other half; one of the text itself is doubled")
		}
		p, err := parsePlace(text[i+1:i+end], plurals)
		if err != nil {
			return nil, err
		}
		if words != "" {
			t = append(t, part{words: words})
		}
		t, words, text = append(t, p), "", text[i+end+1:]
	}
	if words != "" {
		t = append(t, part{words: words})
	}
	return t, nil
}

func parsePlace(text string, plurals int) (part, error) {
	pieces := strings.Split(text, "|")
	p := part{name: pieces[0], forms: pieces[1:]}
	named := func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	switch {
	case p.name == "" || strings.ContainsFunc(p.name, named):
		return part{}, fmt.Errorf("{%s}: want the name of a parameter, of letters, digits and _", text)
	case len(p.forms) > 0 && len(p.forms) != plurals:
		return part{}, fmt.Errorf("{%s}: %d forms; the language has %d", p.name, len(p.forms), plurals)
	}
	return p, nil
}

func (t template) fill(language string, args []Args) (string, error) {
	if len(t) == 1 && t[0].name == "" {
		return t[0].words, nil
	}
	var b strings.Builder
	for _, p := range t {
		if p.name == "" {
			b.WriteString(p.words)
			continue
		}
		value, ok := find(args, p.name)
		if !ok {
			return "", fmt.Errorf("no parameter {%s}", p.name)
		}
		if len(p.forms) == 0 {
			fmt.Fprint(&b, value)
			continue
		}
		n, ok := count(value)
		if !ok {
			return "", fmt.Errorf("parameter {%s} has forms, and is %T: want a whole number", p.name, value)
		}
		b.WriteString(p.forms[plural(language, n)])
	}
	return b.String(), nil
}

func find(args []Args, name string) (any, bool) {
	for _, a := range args {
		if v, ok := a[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func count(value any) (int, bool) {
	switch v := value.(type) {
	case int:
		return v, true
	case int64:
		return int(v), true
	case int32:
		return int(v), true
	case uint:
		return int(v), v < 1<<62 //nolint:gosec // it is bounded
	}
	return 0, false
}

// fill puts parameters into a text that isn't of a catalogue. What a parameter brings
// is not looked at again.
func fill(text string, args []Args) string {
	if len(args) == 0 {
		return text
	}
	var pairs []string
	for _, a := range args {
		for _, name := range slices.Sorted(maps.Keys(a)) {
			pairs = append(pairs, "{"+name+"}", fmt.Sprint(a[name]))
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
