-- Events that came again as redriven dead letters, noted in the transaction of their rows: each is applied once.
create table consumer_redriven (
    group_name text collate "C" not null,
    event_id uuid not null,
    topic text collate "C" not null,
    applied_at timestamptz not null default now(),
    primary key (group_name, event_id)
);
