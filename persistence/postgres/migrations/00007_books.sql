-- What is counted of all that is acknowledged, and what became of it: see audit.go.

-- +goose Up

-- A transaction that changes a count inserts what it changes it by, so that nobody
-- waits for a row that others count in. Now and then these are added up in ledger.
-- sort: 0 events, 1 receipts, 2 entries of the quarantine. bucket: 5 minutes of
-- acceptance, 0 for long ago. It is a queue table (see the first step).
create table parley.posting (
    brand        bytea    not null,
    sort         smallint not null,
    bucket       bigint   not null,
    acknowledged bigint   not null default 0,
    effected     bigint   not null default 0,
    duplicate    bigint   not null default 0,
    dead         bigint   not null default 0,
    dropped      bigint   not null default 0
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

create table parley.ledger (
    brand        bytea    not null,
    sort         smallint not null,
    bucket       bigint   not null,
    acknowledged bigint   not null default 0,
    effected     bigint   not null default 0,
    duplicate    bigint   not null default 0,
    dead         bigint   not null default 0,
    dropped      bigint   not null default 0,
    primary key (brand, sort, bucket)
) with (fillfactor = 50);

-- The events of an append, in a form of the program's: what there must be, beside the
-- place where it is looked for. A bucket's are deleted once it is settled.
create table parley.accepted (
    bucket bigint not null,
    events bytea  not null
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index accepted_bucket on parley.accepted (bucket);

-- Since when everybody counts who writes, in ms; 0: somebody doesn't. turn is how
-- often that has changed. Programs that don't know of it don't count: while one of
-- them is a member, the others say 0. In an empty database everybody has counted.
create table parley.books (
    one    boolean primary key default true check (one),
    opened bigint  not null,
    turn   bigint  not null default 0
);
insert into parley.books (opened)
select case when exists (select from parley.inbox) or exists (select from parley.receipt) or exists (select from parley.quarantine)
        or exists (select from parley.dead) or exists (select from parley.conversation)
    then 0 else floor(extract(epoch from clock_timestamp()) * 1000)::bigint end;

-- +goose Down
drop table parley.books, parley.accepted, parley.ledger, parley.posting;
