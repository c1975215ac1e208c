-- Dead letters in the order of their times, as an operator lists them: a page of a
-- long list is a walk of as many rows, and not a sort of all.

-- +goose Up
create index dead_time on parley.dead (at, id);

-- +goose Down
drop index parley.dead_time;
