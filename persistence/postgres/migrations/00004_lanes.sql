-- The lanes of the outbox: what is bulk waits for what isn't.

-- +goose Up

-- bulk: the message waits in the second lane. Where it waits says its due, so that
-- the one index serves both: a time t in the first lane is t - 2^61 in the second.
-- Programs that don't know the column send bulk first, and that is all.
alter table parley.outbox add column bulk boolean not null default false;

-- +goose Down
update parley.outbox set due = due + 2305843009213693952 where due < 0;
alter table parley.outbox drop column bulk;
