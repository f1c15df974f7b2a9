-- What is known of each replay beside the machine that runs it. The job itself is a file there; this is for the owner's page.

create table replays (
    id text collate "C" primary key,
    machine text not null,
    what text not null,
    target text not null,
    state text not null,
    cause text,
    offsets bigint not null,
    offsets_done bigint not null,
    records_written bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
