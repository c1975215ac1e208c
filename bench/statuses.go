package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/ingress"
)

// statusTimes is the rate of statuses, in times that of messages: 3,000 a second
// beside 2,000.
const statusTimes = 1.5

// statuses is what Meta reports of one number's messages, a status in each webhook:
// what it costs to acknowledge them durably and to fold them. The process has no
// actors, so that whatever would be a turn is left in its inbox.
func (c config) statuses(ctx context.Context) ([]rounds.Figure, error) {
	folder, remove, err := c.tempFolder()
	if err != nil {
		return nil, err
	}
	defer remove()
	const nowhere = "http://127.0.0.1:1" // nothing is sent
	child, err := self(ctx, sendingArgument, folder, outbox{Graph: nowhere, Numbers: 1, Pace: fastNumber}.argument())
	if err != nil {
		return nil, err
	}
	rate := statusTimes * c.rate
	unit, err := bare.Measure(ctx, child, bare.MeasureConfig{
		Rate: rate, Duration: c.duration, Warmup: c.warmup, Path: path, Connections: c.connections, Body: status,
	})
	if err != nil {
		return nil, err
	}
	left, err := backlog(ctx, folder)
	if err != nil {
		return nil, err
	}
	if left.Pending > 0 {
		return nil, fmt.Errorf("%d of %d statuses would be turns", left.Pending, unit.Warmup.Accepted+unit.Load.Accepted)
	}
	// A sender folds every egress.FoldEvery, and is stopped with the load.
	if most := rate * 2 * egress.FoldEvery.Seconds(); float64(left.Receipts) > most || left.Quarantined > 0 {
		return nil, fmt.Errorf("%d receipts are not folded, want %.0f at most; quarantined are %d", left.Receipts, most, left.Quarantined)
	}
	return append(c.requestFigures(unit),
		rounds.Figure{Name: "turns", Unit: "rows in the inbox", Value: float64(left.Pending)},
		rounds.Figure{Name: "rate", Unit: "statuses/s", Value: rate},
		rounds.Figure{Name: "not folded at the end", Unit: "receipts", Value: float64(left.Receipts)},
	), nil
}

// backlog is what a process that has ended left in its store.
func backlog(ctx context.Context, place string) (b parley.Backlog, err error) {
	stored, err := openStore(ctx, place)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	if b, err = stored.Backlog(ctx); err != nil {
		return b, fmt.Errorf("backlog: %w", err)
	}
	return b, nil
}

// status is the k-th webhook: three follow each other for each message.
func status(k uint64) []byte {
	const form = `{"object":"whatsapp_business_account","entry":[{"id":"9","changes":[{"field":"messages","value":{"messaging_product":"whatsapp",` +
		`"metadata":{"display_phone_number":"490","phone_number_id":"0"},"statuses":[{"id":"wamid.%032x","status":%q,"timestamp":"1764000000","recipient_id":"49%011d",` +
		`"pricing":{"billable":false,"pricing_model":"PMP","category":"service","type":"free_customer_service"}}]}}]}]}`
	return fmt.Appendf(nil, form, k/3, [...]string{"sent", "delivered", "read"}[k%3], k/3)
}

// waking tells senders of receipts that have come.
type waking struct {
	ingress.Inbox

	senders *egress.Manager
}

// Append is the inbox's.
func (w waking) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	rows, err := w.Inbox.Append(ctx, a)
	if err == nil && len(a.Receipts) > 0 {
		w.senders.Wake(a.Receipts[0].Channel)
	}
	return rows, err
}
