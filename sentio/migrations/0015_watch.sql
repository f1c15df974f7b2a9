-- What the watcher sees, for the owner's page: how things stand, once, and the minutes of the last days.

create table watch_now (
    one boolean primary key default true check (one),
    at timestamptz not null,
    document json not null
) with (fillfactor = 50);

create table watch_minutes (
    minute_at timestamptz primary key,
    document json not null
);
