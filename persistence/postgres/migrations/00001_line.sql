-- The tables of the line.
--
-- Names, keys and texts are bytea: what Meta sends may hold zero bytes and
-- broken UTF-8, which text refuses. Times are ms since 1970, 0 for none. A
-- conversation's key is its stored name, brand first; a shard is that of the
-- name (see parley.Conversation.Shard).
--
-- Queue tables (inbox, outbox, receipt, timer) are vacuumed by the number of dead
-- rows, not by a share of the table: a share of nearly nothing is reached all the
-- time, and a share of a backlog never.

-- +goose Up

-- Which programs may work with this schema: see migrate.go.
create table parley.contract (
    one    boolean primary key default true check (one),
    oldest bigint  not null
);
insert into parley.contract (oldest) values (1);

create sequence parley.inbox_seq cache 1;

-- Rows are inserted once, read by their conversation's key, and deleted by the
-- commit that handles them.
create table parley.inbox (
    shard    smallint not null,
    conv     bytea    not null,
    seq      bigint   not null default nextval('parley.inbox_seq'),
    token    bigint   not null,
    received bigint   not null,
    at       bigint   not null,
    key      bytea    not null,
    late     boolean  not null,
    data     bytea    not null,
    primary key (shard, conv, seq)
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index inbox_received on parley.inbox (received);

-- Nothing that a turn changes is in an index, and a page has room for another
-- version of each of its rows: updates stay within their page (HOT).
create table parley.conversation (
    conv     bytea    not null primary key,
    version  bigint   not null,
    token    bigint   not null,
    format   smallint not null,
    snapshot bytea    not null
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.1
);
alter table parley.conversation alter column snapshot set storage external;

-- The keys by which a contact is known, each with the conversation that it
-- means. The number of a conversation's own key is its age.
create sequence parley.contact_seq cache 1;
create table parley.contact (
    alias     bytea  not null primary key,
    canonical bytea  not null,
    born      bigint not null default nextval('parley.contact_seq')
);
create index contact_canonical on parley.contact (canonical);

-- Conversations that have been merged into others, all steps of a chain.
create table parley.merged (
    survivor bytea    not null,
    younger  bytea    not null,
    shard    smallint not null,
    primary key (survivor, younger)
);
create index merged_younger on parley.merged (younger, survivor);

-- Messages to be sent. due says where one stands: null, behind another of its
-- conversation; 2^60, claimed; otherwise the time from which it may be claimed.
create table parley.outbox (
    id       uuid     not null primary key,
    channel  bytea    not null,
    conv     bytea    not null,
    ordinal  bigint   not null,
    at       bigint   not null,
    data     bytea    not null,
    attempts integer  not null default 0,
    doubtful boolean  not null default false,
    epoch    bigint   not null default 0,
    claimed  bigint   not null default 0,
    due      bigint
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index outbox_line on parley.outbox (conv, ordinal);
create index outbox_due on parley.outbox (channel, due, id) where due is not null;

create table parley.lease (
    channel bytea  not null primary key,
    holder  bytea  not null,
    epoch   bigint not null,
    expiry  bigint not null
) with (fillfactor = 50);

create table parley.timer (
    id    uuid     not null primary key,
    shard smallint not null,
    conv  bytea    not null,
    due   bigint   not null,
    key   bytea    not null,
    data  bytea    not null
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
create index timer_due on parley.timer (due, id);

create sequence parley.receipt_seq cache 1;
create table parley.receipt (
    channel     bytea  not null,
    n           bigint not null default nextval('parley.receipt_seq'),
    status      bytea  not null,
    provider_id bytea  not null,
    outgoing    uuid   not null,
    contact     bytea  not null,
    watermark   bigint not null,
    at          bigint not null,
    code        bigint not null,
    reason      bytea  not null,
    primary key (channel, n)
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- What is known of messages that were handed over. The key is a digest: the
-- provider's ids have no limit, those of an index do. day is that of the last
-- change, so that most changes leave the index alone.
create table parley.delivery (
    channel     bytea   not null,
    digest      bytea   not null,
    provider_id bytea   not null,
    outgoing    uuid    not null,
    contact     bytea   not null,
    status      bytea   not null,
    at          bigint  not null,
    sent        bigint  not null,
    code        bigint  not null,
    reason      bytea   not null,
    day         integer not null,
    primary key (channel, digest)
) with (fillfactor = 80);
create index delivery_day on parley.delivery (day);

create table parley.watermark (
    conv   bytea  not null,
    status bytea  not null,
    up_to  bigint not null,
    at     bigint not null,
    primary key (conv, status)
) with (fillfactor = 80);

create table parley.dead (
    brand bytea  not null,
    id    uuid   not null,
    conv  bytea  not null,
    at    bigint not null,
    cause bytea  not null,
    seq   bigint not null,
    data  bytea  not null,
    primary key (brand, id)
);

create table parley.registration (
    app     bytea not null,
    channel bytea not null,
    primary key (app, channel)
);

-- By day, so that what is old goes by dropping a table. Days are made ahead;
-- a row of a day that wasn't made goes to the default partition, which is slower
-- to clean and nothing else.
create table parley.history (
    day     integer not null,
    conv    bytea   not null,
    version bigint  not null,
    record  bytea   not null,
    primary key (conv, version, day)
) partition by range (day);
create table parley.history_default partition of parley.history default;

create table parley.seen (
    day  integer not null,
    conv bytea   not null,
    key  bytea   not null,
    at   bigint  not null,
    primary key (conv, key, day)
) partition by range (day);
create table parley.seen_default partition of parley.seen default;

create sequence parley.quarantine_seq cache 1;
create table parley.quarantine (
    day        integer not null,
    id         uuid    not null,
    entrance   bytea   not null,
    app        bytea   not null,
    kind       bytea   not null,
    channel_id bytea   not null,
    cause      bytea   not null,
    body       bytea   not null,
    received   bigint  not null,
    primary key (entrance, id, day)
) partition by range (day);
create index quarantine_id on parley.quarantine (id);
create table parley.quarantine_default partition of parley.quarantine default;

-- +goose Down
drop schema parley cascade;
create schema parley;
