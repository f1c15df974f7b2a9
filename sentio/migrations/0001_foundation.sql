-- Exact rounding, tables of events on every edition, and the ledger of offsets.

-- Half even, as Python's decimal rounds; PostgreSQL's own round() takes halves away from zero.
create function round_half_even(amount numeric, places int) returns numeric
language sql immutable parallel safe as $$
    select case
        when abs(amount * 10::numeric ^ places - trunc(amount * 10::numeric ^ places)) = 0.5
        then 2 * round(amount / 2, places)
        else round(amount, places)
    end
$$;

-- A table of events keyed by (event time, event_id), since a hypertable's key must hold its time.
-- Hypertable where TimescaleDB is, monthly native partitions elsewhere (see sentio_partition_for).
create function sentio_event_table(name text, time_column text, columns text) returns void
language plpgsql as $$
begin
    if exists (select from pg_extension where extname = 'timescaledb') then
        execute format(
            'create table %I (event_id uuid not null, producer text collate "C" not null, sequence bigint not null,'
            ' %s, primary key (%I, event_id))', name, columns, time_column);
        execute format(
            'select create_hypertable(%L, by_range(%L, interval ''7 days''), create_default_indexes => false)',
            name, time_column);
    else
        execute format(
            'create table %I (event_id uuid not null, producer text collate "C" not null, sequence bigint not null,'
            ' %s, primary key (%I, event_id)) partition by range (%I)', name, columns, time_column, time_column);
        execute format('create table %I partition of %I default', name || '_default', name);
    end if;
end $$;

-- Makes the partition for the month that begins on a day, in UTC. Nothing to do on hypertables. A month that is far
-- off (a clock gone wrong) stays in the default partition, as does one that already has rows there.
create function sentio_partition_for(name text, time_column text, month date) returns void
language plpgsql as $$
declare
    part text := name || to_char(month, '_YYYY_MM');
    first_at timestamptz := month::timestamp at time zone 'UTC';
    next_at timestamptz := (month + interval '1 month') at time zone 'UTC';
    taken boolean;
begin
    if (select relkind from pg_class where oid = name::regclass) <> 'p'
        or month < '2000-01-01' or month > now() + interval '1 year' then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext(part));
    if to_regclass(part) is null then
        execute format('select exists (select from %I where %I >= %L and %I < %L)',
            name || '_default', time_column, first_at, time_column, next_at) into taken;
        if not taken then
            execute format('create table %I partition of %I for values from (%L) to (%L)', part, name, first_at, next_at);
        end if;
    end if;
end $$;

-- Where each consumer group stands in each partition, moved in the transaction of the rows it wrote.
create table consumer_offsets (
    group_name text collate "C" not null,
    topic text collate "C" not null,
    partition int not null,
    generation bigint not null,
    next_offset bigint not null,
    topic_id text not null,
    updated_at timestamptz not null default now(),
    primary key (group_name, topic, partition)
);

-- Last sequence seen of each producer in each partition: at or below it is a repeat.
create table consumer_marks (
    group_name text collate "C" not null,
    topic text collate "C" not null,
    partition int not null,
    producer text collate "C" not null,
    sequence bigint not null,
    updated_at timestamptz not null default now(),
    primary key (group_name, topic, partition, producer)
);
