-- Calls of services, which turns have decided and which aren't answered yet.

-- +goose Up

-- A row is claimed for as long as its due says, and deleted by its answer, which
-- becomes a row of the inbox, or by the commit that cancels it. claim is a token
-- drawn for each claim, 0 if no outcome of any counts. It is a queue table (see the
-- first step). Programs that don't know it have no conversations with calls.
create table parley.call (
    id       uuid    not null primary key,
    conv     bytea   not null,
    service  bytea   not null,
    at       bigint  not null,
    due      bigint  not null,
    claim    bigint  not null default 0,
    attempts integer not null default 0,
    status   integer not null default 0,
    cause    bytea   not null default '',
    data     bytea   not null
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index call_due on parley.call (service, due, id);

-- +goose Down
drop table parley.call;
