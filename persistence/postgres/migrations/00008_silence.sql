-- What is in the outbox and isn't to be sent any more, since somebody else was given
-- the word.

-- +goose Up

-- Messages of conv up to that ordinal are silenced. A row is written by the commit that
-- hands the word over, if something waits in the outbox then, and deleted by the upkeep
-- when nothing of it does any more (at: since when it stands, in ms). It is beside the
-- outbox, and not in it, so that a commit never waits for the locks of a sender. There
-- are seldom more than a few: it is a queue table (see the first step). Programs that
-- don't know it send what it silences.
create table parley.silence (
    conv    bytea  not null primary key,
    ordinal bigint not null,
    at      bigint not null
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- +goose Down
drop table parley.silence;
