-- Rows of the inbox that a process may have died of: see actors.Suspects.

-- +goose Up

-- A row is noted when it is about to be run by a process that has reason to be
-- careful, and deleted when it was run: there are seldom more than a few. It is a
-- queue table (see the first step). Programs that don't know it leave it alone.
create table parley.suspect (
    seq   bigint not null,
    token bigint not null,
    noted bigint not null,
    primary key (seq, token)
) with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- +goose Down
drop table parley.suspect;
