package node

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/egress"
)

const (
	// quietPercent of a core is so little that one processor is enough for a process:
	// what is ready to run waits there for a sixth of the time that it runs, if it
	// comes at random (ρ/2(1-ρ), the wait of the queue M/D/1).
	quietPercent = 25
	// busyPercent is from where on it waits for more than a quarter of that, which is
	// worth a second processor.
	busyPercent = 35
	// lateMost is how late a look may come. A process that is later wants more than it
	// gets, however little that is.
	lateMost = 50 * time.Millisecond
	// liveMost is with how much in memory one processor may be enough: to use more of
	// them waits for the collection of garbage that is under way, which one alone takes
	// long for if there is much.
	liveMost = 64 << 20

	quietFor = time.Second
	busyFor  = 200 * time.Millisecond
)

// adaptProcessors lets a process run on one of the runtime's processors (GOMAXPROCS)
// while it has little to do, and on all of them otherwise, until it is stopped. A
// process that sleeps between any two things to do wakes a second thread up for each,
// which looks for more to do, finds none and sleeps again; that is an eighth of
// what such a node needs (docs/benchmarks.md). What GOMAXPROCS says is left alone.
func adaptProcessors() (stop func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	done := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() { followLoad(done) })
	return func() {
		close(done)
		loop.Wait()
	}
}

// followLoad looks at the load, again and again, until done; then all processors are
// used.
func followLoad(done <-chan struct{}) {
	defer runtime.SetDefaultGOMAXPROCS()
	one, used, at := false, processCPU(), time.Now() //nolint:forbidigo // the load of this machine, not of what is simulated
	rest := lookAgain(one)
	next := time.NewTimer(rest) //nolint:forbidigo // as above
	defer next.Stop()
	for {
		select {
		case <-done:
			return
		case <-next.C:
		}
		usedNow, passed := processCPU(), time.Since(at) //nolint:forbidigo // as above
		is := enoughIsOne(one, load{used: usedNow - used, passed: passed, late: passed - rest, live: liveBytes()})
		if is != one {
			setProcessors(is)
		}
		one, used, at = is, usedNow, time.Now() //nolint:forbidigo // as above
		rest = lookAgain(one)
		next.Reset(rest)
	}
}

// load is what a process had to do between two looks.
type load struct {
	used, passed time.Duration // of the CPU, and in all
	late         time.Duration // by how much later than it should the look has come
	live         uint64        // bytes in memory
}

// enoughIsOne reports whether a process needs no more than one processor.
func enoughIsOne(isOne bool, l load) bool {
	if l.late > lateMost || l.live > liveMost {
		return false
	}
	limit := quietPercent
	if isOne {
		limit = busyPercent
	}
	return 100*l.used.Seconds() < float64(limit)*l.passed.Seconds()
}

// lookAgain is how long after one look the next one comes: it is soon noticed that one
// processor isn't enough any more.
func lookAgain(isOne bool) time.Duration {
	every := quietFor
	if isOne {
		every = busyFor
	}
	return actors.UntilLook(egress.SinceBoot(), every)
}

// setProcessors has the process run on one, or on as many as the machine has for it.
func setProcessors(one bool) {
	if one {
		runtime.GOMAXPROCS(1)
		return
	}
	runtime.SetDefaultGOMAXPROCS()
}

// processCPU is what the process has used of the CPU.
func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
