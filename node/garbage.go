package node

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// garbageLeast is what a process may make of garbage between two collections,
	// however little is live: some 64 MiB of memory for up to a tenth of a busy node's
	// CPU (docs/benchmarks.md).
	garbageLeast = 64 << 20
	// garbagePercent is the runtime's own measure: as much as is live. It is that of
	// heaps from garbageLeast on.
	garbagePercent = 100
)

// collectSeldom lets a process with a small heap collect less often than the runtime
// would by itself. A collection costs what is live and not what is garbage, and a node
// that keeps ten megabytes and makes a hundred in a second would collect ten times in
// it. What GOGC says is left alone, and GOMEMLIMIT is heeded as ever.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		adjustAfterCollection()
	}
}

// adjustAfterCollection has each collection adjust when the next one comes: it is
// what finds that nobody has the sentinel.
func adjustAfterCollection() {
	sentinel := new([2]uint64) // as large as has an allocation of its own
	runtime.AddCleanup(sentinel, func(struct{}) {
		percent := garbagePercentOf(liveBytes())
		debug.SetGCPercent(percent)
		adjustAfterCollection()
	}, struct{}{})
}

// garbagePercentOf is how much garbage, in percent of what is live, may be made before
// the next collection.
func garbagePercentOf(live uint64) int {
	if live == 0 {
		return garbagePercent // there has been none yet
	}
	return int(min(max(garbageLeast*100/live, garbagePercent), math.MaxInt32))
}

// liveBytes is what the last collection has found to be live.
func liveBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
