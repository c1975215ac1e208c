package actors

import "sync/atomic"

const (
	// runnersIdle are the goroutines that wait for a mailbox. A few more than
	// conversations wake up together, by a commit or a parcel; some 16 KiB each.
	runnersIdle = 64
	// runnersGive is after how many messages a mailbox lets others run: as the
	// library's own dispatcher.
	runnersGive = 300
)

// runners run mailboxes, on goroutines that have run others before: a turn needs
// several times the stack that a goroutine is born with, and to let it grow anew for
// each turn is a twentieth of what the turn costs. A mailbox never waits for one:
// where none is idle, another is born, so that one that stands still is nobody else's.
type runners struct {
	next chan func()     // to whoever is idle
	end  <-chan struct{} // the idle go home when it is closed
	idle atomic.Int32
}

func newRunners(end <-chan struct{}) *runners {
	return &runners{next: make(chan func()), end: end}
}

// Schedule has a mailbox run.
func (r *runners) Schedule(mailbox func()) {
	select {
	case r.next <- mailbox:
	default:
		go r.run(mailbox)
	}
}

// Throughput is after how many messages a mailbox lets others run.
func (*runners) Throughput() int { return runnersGive }

func (r *runners) run(mailbox func()) {
	for {
		mailbox()
		if r.idle.Add(1) > runnersIdle {
			r.idle.Add(-1)
			return
		}
		select {
		case mailbox = <-r.next:
			r.idle.Add(-1)
		case <-r.end:
			r.idle.Add(-1)
			return
		}
	}
}
