package parley

import (
	"slices"
	"strings"
)

// Attribute is something known of the contact: a language, a number of theirs. It
// belongs to the conversation, not to the bot's state: it survives End and new
// versions of the bot, and operators and campaigns can see it.
type Attribute struct {
	Name  string
	Value string
}

// SetAttribute notes something of the contact. An empty value forgets it.
type SetAttribute struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Tag puts a tag on the contact; it survives End, too.
type Tag struct {
	Name string `json:"name"`
}

// Untag takes a tag from the contact, if it has it.
type Untag struct {
	Name string `json:"name"`
}

// EffectKind names an effect in the store.
func (SetAttribute) EffectKind() string { return "set_attribute" }
func (Tag) EffectKind() string          { return "tag" }
func (Untag) EffectKind() string        { return "untag" }

func (SetAttribute) isEffect() {}
func (Tag) isEffect()          {}
func (Untag) isEffect()        {}

// SetAttribute notes something of the contact; an empty value forgets it.
func (t *Turn) SetAttribute(name, value string) { t.Do(SetAttribute{Name: name, Value: value}) }

// Tag puts a tag on the contact.
func (t *Turn) Tag(name string) { t.Do(Tag{Name: name}) }

// Untag takes a tag from the contact.
func (t *Turn) Untag(name string) { t.Do(Untag{Name: name}) }

// Attribute is what is known under a name, after what the turn has done so far;
// empty if nothing is.
func (t *Turn) Attribute(name string) string {
	for _, e := range slices.Backward(t.effects) {
		if set, ok := e.(SetAttribute); ok && set.Name == name {
			return set.Value
		}
	}
	return t.before.Attribute(name)
}

// Attributes are all that is known of the contact, sorted by name, after what the turn
// has done so far. They must not be changed.
func (t *Turn) Attributes() []Attribute { return t.after().Attributes }

// Tags are the contact's, sorted, after what the turn has done so far. They must not be
// changed.
func (t *Turn) Tags() []string { return t.after().Tags }

// after is what is known of the contact after what the turn has done so far. What it
// is made of is never written to.
func (t *Turn) after() *Snapshot {
	s := Snapshot{Attributes: t.before.Attributes, Tags: t.before.Tags}
	for _, e := range t.effects {
		switch e := e.(type) {
		case SetAttribute:
			s.setAttribute(e.Name, e.Value)
		case Tag:
			s.tag(e.Name, true)
		case Untag:
			s.tag(e.Name, false)
		default: // says nothing of the contact
		}
	}
	return &s
}

// Tagged reports whether the contact has a tag, after what the turn has done so far.
func (t *Turn) Tagged(name string) bool {
	for _, e := range slices.Backward(t.effects) {
		switch e := e.(type) {
		case Tag:
			if e.Name == name {
				return true
			}
		case Untag:
			if e.Name == name {
				return false
			}
		default: // says nothing of tags
		}
	}
	_, found := slices.BinarySearch(t.before.Tags, name)
	return found
}

// Attribute is what is known of the contact under a name; empty if nothing is.
func (s *Snapshot) Attribute(name string) string {
	if i, found := s.attribute(name); found {
		return s.Attributes[i].Value
	}
	return ""
}

func (s *Snapshot) attribute(name string) (int, bool) {
	return slices.BinarySearchFunc(s.Attributes, name, func(a Attribute, name string) int { return strings.Compare(a.Name, name) })
}

// setAttribute keeps the attributes sorted by name. The slice may be another
// snapshot's, too: it is never written to.
func (s *Snapshot) setAttribute(name, value string) {
	i, found := s.attribute(name)
	all := slices.Clone(s.Attributes)
	switch {
	case found && value == "":
		all = slices.Delete(all, i, i+1)
	case found:
		all[i].Value = value
	case value != "":
		all = slices.Insert(all, i, Attribute{Name: name, Value: value})
	}
	s.Attributes = all
}

// tag keeps the tags sorted; see setAttribute.
func (s *Snapshot) tag(name string, on bool) {
	i, found := slices.BinarySearch(s.Tags, name)
	switch {
	case found && !on:
		s.Tags = slices.Delete(slices.Clone(s.Tags), i, i+1)
	case !found && on:
		s.Tags = slices.Insert(slices.Clone(s.Tags), i, name)
	}
}

func (t *Turn) checkAttribute(a SetAttribute) {
	t.checkName("attribute name", a.Name, 1)
	if len(a.Value) > MaxAttributeBytes {
		_ = t.over("attribute of %d bytes: at most %d (MaxAttributeBytes)", len(a.Value), MaxAttributeBytes)
	}
}

// tooMuch counts what the conversation would hold after the turn. A merged one may
// have begun with more than is allowed: it may not add to it.
func (w *work) tooMuch(t *Turn) *TurnError {
	if err := w.tooManyTimers(t); err != nil {
		return err
	}
	if !slices.ContainsFunc(t.effects, holds) {
		return nil
	}
	after := Snapshot{Calls: w.next.Calls, Attributes: w.next.Attributes, Tags: w.next.Tags}
	probe := work{next: after}
	for _, e := range t.effects {
		if holds(e) {
			probe.effect(e, t.now)
		} else if _, ok := e.(End); ok {
			probe.next.Calls = nil
		}
	}
	for _, c := range [...]struct {
		what      string
		is, was   int
		limit     int
		limitName string
	}{
		{"live calls", len(probe.next.Calls), len(after.Calls), MaxCalls, "MaxCalls"},
		{"attributes", len(probe.next.Attributes), len(after.Attributes), MaxAttributes, "MaxAttributes"},
		{"tags", len(probe.next.Tags), len(after.Tags), MaxTags, "MaxTags"},
	} {
		if c.is > max(c.limit, c.was) {
			return limitError("%d %s: at most %d (%s)", c.is, c.what, c.limit, c.limitName)
		}
	}
	return nil
}

// holds reports whether an effect may make the conversation hold more.
func holds(e Effect) bool {
	switch e.(type) {
	case Call, CancelCall, SetAttribute, Tag, Untag:
		return true
	case Send, SetTimer, CancelTimer, Become, End, HandOff, Resume:
	}
	return false
}
