package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// FireTimers moves due timers to the inbox: see actors.Agenda. While none is
// due it reads nothing.
func (s *Store) FireTimers(ctx context.Context, owned func(uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error) {
	var rows []parley.Pending
	wait := horizon
	err := s.write(ctx, makesSpace, func(t *txn) error {
		if t.nextDue > t.now && !t.dueGone {
			wait = min(horizon, t.until(t.nextDue))
			return nil
		}
		due, err := t.due(owned, limit, horizon)
		if err != nil {
			return err
		}
		random, err := t.random(8 * len(due.fire))
		if err != nil {
			return err
		}
		rows = make([]parley.Pending, len(due.fire))
		for i := range due.fire {
			token := parley.Token(binary.BigEndian.Uint64(random[8*i:]))
			rows[i] = t.fire(&due.fire[i], token)
		}
		t.nextDue, t.dueGone = due.first, false
		wait = min(horizon, t.until(due.next))
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("fire timers: %w", err)
	}
	return rows, max(wait, 0), nil
}

// until is the time from now to due; for never, far away.
func (t *txn) until(due int64) time.Duration {
	if due == never {
		return never
	}
	return time.Duration(max(due-t.now, 0)) * time.Millisecond
}

// dueTimer is an entry of the due list that is to fire.
type dueTimer struct {
	key          []byte
	id           parley.ID
	conversation parley.Conversation
	input        parley.TimerFired
	data         []byte
}

// dueList is what a look at the due list finds.
type dueList struct {
	fire  []dueTimer
	first int64 // due time of the first timer that stays in the list
	next  int64 // due time of the first owned one that stays
}

// due reads the due list up to the first owned timer that doesn't fire now.
func (t *txn) due(owned func(uint16) bool, limit int, horizon time.Duration) (dueList, error) {
	list := dueList{first: never, next: never}
	begin := timerKey(nil, t.nextDue, parley.ID{})
	end := t.now + min(horizon.Milliseconds(), never-t.now)
	err := scanOf(t.db, begin, after([]byte{tableTimer}), func(key, value []byte) (bool, error) {
		timer, due, err := readTimer(key, value)
		if err != nil {
			return false, err
		}
		if due > end {
			list.first = min(list.first, due)
			return false, nil
		}
		if !owned(timer.conversation.Shard()) {
			list.first = min(list.first, due)
			return true, nil
		}
		if due > t.now || len(list.fire) >= limit {
			list.first, list.next = min(list.first, due), due
			return false, nil
		}
		timer.data, err = parley.EncodeInput(timer.input)
		list.fire = append(list.fire, timer)
		return true, err
	})
	return list, err
}

func readTimer(key, value []byte) (dueTimer, int64, error) {
	k, err := readKey(tableTimer, key)
	if err != nil {
		return dueTimer{}, 0, err
	}
	due := int64(k.uint64())
	timer := dueTimer{key: append([]byte(nil), key...), id: k.id()}
	r, err := readRow(tableTimer, value)
	if err != nil {
		return dueTimer{}, 0, err
	}
	conv := reader{b: r.raw()}
	timer.conversation = conv.conversation()
	timer.input = parley.TimerFired{Name: r.string(), Generation: r.uvarint(), Due: fromMS(due)}
	return timer, due, r.end("timer")
}

// fire moves one entry to the inbox. Its event key derives from what it is, so
// that it would be recognized even if it came twice.
func (t *txn) fire(timer *dueTimer, token parley.Token) parley.Pending {
	p := parley.Pending{
		Row: parley.Row{Token: token}, Conversation: timer.conversation,
		Key:   parley.NewEventKey("timer", timer.conversation.String(), string(timer.id[:])),
		Input: timer.input, Data: timer.data,
	}
	t.del(timer.key)
	t.counts.timers--
	t.enqueue(&p)
	return p
}
