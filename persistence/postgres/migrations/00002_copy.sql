-- What is copied into this database from another store: see copy.go.

-- +goose Up

-- At most one row, as only an empty database is copied into. While it isn't
-- finished, no node works with the database.
create table parley.copy (
    one      boolean primary key default true check (one),
    source   bytea   not null, -- digest of all that is copied
    up_to    bytea   not null, -- the place in the source up to which it has been
    items    bigint  not null, -- that have been
    began    bigint  not null,
    finished bigint
);

-- +goose Down
drop table parley.copy;
