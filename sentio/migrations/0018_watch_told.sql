-- Which alerts have begun, and who is still to be told of what: a watcher that is restarted goes on with it.

create table watch_told (
    one boolean primary key default true check (one),
    document json not null
);
