//go:build !linux

package node

import (
	"context"
	"errors"
)

var errNoNetworks = errors.New("networks of their own for nodes need Linux")

// network is a network namespace for each node; here there are none.
type network struct{}

func newNetwork(context.Context, int) (*network, error) { return nil, errNoNetworks }

func (*network) here() string                         { return "" }
func (*network) address(int) string                   { return "" }
func (*network) within(int) []string                  { return nil }
func (*network) cut(context.Context, int, bool) error { return errNoNetworks }
func (*network) mend(context.Context, int) error      { return errNoNetworks }
func (*network) close(context.Context) error          { return nil }
