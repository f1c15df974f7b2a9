-- How far each replay into a live table is, and what it has counted: moved in the transaction of its rows, gone when it ends.
create table replay_progress (
    job text collate "C" primary key,
    partitions int[] not null,
    next_offsets bigint[] not null,
    counts jsonb not null,
    updated_at timestamptz not null default now()
);
