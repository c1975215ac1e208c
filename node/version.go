package node

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCommand struct{}

// Run prints the module's version and what it was built with.
func (versionCommand) Run(sys *system) error {
	_, err := fmt.Fprintf(sys.out, "parley %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// release is the version, if whoever builds sets it:
// -ldflags "-X github.com/parleychat/parley/node.release=v1.2.3".
var release string //nolint:gochecknoglobals // set by the linker

func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
