package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/parleychat/parley/bench/bare"
)

type bareCommand struct{}

// Run is the process of the bare server.
func (bareCommand) Run(sys *system) error { return bare.Child(sys.in, sys.out) }

// measureUnit is the CPU per request of the bare server at the given rate, in µs.
func measureUnit(ctx context.Context, rate float64) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	unit, err := bare.Measure(ctx, exec.CommandContext(ctx, self, "bare"), bare.MeasureConfig{Rate: rate})
	if err != nil {
		return 0, fmt.Errorf("measure the bare server: %w", err)
	}
	return float64(unit.PerRequest.Nanoseconds()) / 1000, nil
}
