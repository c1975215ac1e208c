package rounds

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// Conditions are what a figure means nothing without.
type Conditions struct {
	Revision   string `json:"revision"` // of the code, "-dirty" if it was changed since
	Go         string `json:"go"`
	System     string `json:"system"` // GOOS/GOARCH
	CPU        string `json:"cpu"`    // model
	Cores      int    `json:"cores"`
	Load       string `json:"load"`       // averages of 1, 5 and 15 minutes
	Folder     string `json:"folder"`     // where the stores are
	Filesystem string `json:"filesystem"` // type of the file system under it
}

// ReadConditions reads what the machine says of itself; what it doesn't say is "unknown".
func ReadConditions(folder string) Conditions {
	return Conditions{
		Revision:   revision(),
		Go:         runtime.Version(),
		System:     runtime.GOOS + "/" + runtime.GOARCH,
		CPU:        cpuModel(read("/proc/cpuinfo")),
		Cores:      runtime.NumCPU(),
		Load:       loadAverages(read("/proc/loadavg")),
		Folder:     folder,
		Filesystem: filesystem(read("/proc/mounts"), folder),
	}
}

const unknown = "unknown"

func read(name string) string {
	text, _ := os.ReadFile(name) // not every system has it; then it is unknown
	return string(text)
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	commit, dirty := unknown, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return commit + dirty
}

func cpuModel(cpuinfo string) string {
	lines := bufio.NewScanner(strings.NewReader(cpuinfo))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

func loadAverages(loadavg string) string {
	fields := strings.Fields(loadavg)
	if len(fields) < 3 {
		return unknown
	}
	return strings.Join(fields[:3], " ")
}

// filesystem is the type of the mount that holds folder: of those that contain
// it the longest, of equal ones the last, which covers the others.
func filesystem(mounts, folder string) string {
	if target, err := filepath.EvalSymlinks(folder); err == nil {
		folder = target
	}
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	found, longest := unknown, -1
	lines := bufio.NewScanner(strings.NewReader(mounts))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || len(fields[1]) < longest {
			continue
		}
		if point := strings.TrimSuffix(fields[1], "/"); folder == point || strings.HasPrefix(folder, point+"/") {
			found, longest = fields[2], len(fields[1])
		}
	}
	return found
}
