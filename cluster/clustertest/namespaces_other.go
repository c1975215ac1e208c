//go:build !linux

package clustertest

import (
	"context"
	"errors"
)

// ErrNoNamespaces says that there can't be any.
var ErrNoNamespaces = errors.New("network namespaces need Linux and root")

// Namespaces are a network namespace for each of some processes; here there are none.
type Namespaces struct{}

// NewNamespaces fails.
func NewNamespaces(context.Context, int) (*Namespaces, error) { return nil, ErrNoNamespaces }

// Here has no meaning.
func (*Namespaces) Here() string { return "" }

// Address has no meaning.
func (*Namespaces) Address(int) string { return "" }

// Within has no meaning.
func (*Namespaces) Within(int) []string { return nil }

// Cut fails.
func (*Namespaces) Cut(context.Context, int, bool) error { return ErrNoNamespaces }

// Mend fails.
func (*Namespaces) Mend(context.Context, int) error { return ErrNoNamespaces }

// Close does nothing.
func (*Namespaces) Close(context.Context) error { return nil }
