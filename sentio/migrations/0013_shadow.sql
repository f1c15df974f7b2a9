-- Shadows: tables beside the live ones, in a schema of their own, filled anew from the log by groups of their own.

-- One row for each group that writes into a shadow.
create table shadows (
    name text collate "C" not null,
    live_group text collate "C" not null,
    group_name text collate "C" not null unique,
    from_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (name, live_group)
);

-- First sequence that a shadow read of each producer in each partition: rows from there on are of its range.
create table shadow_firsts (
    group_name text collate "C" not null references shadows (group_name) on delete cascade,
    topic text collate "C" not null,
    partition int not null,
    producer text collate "C" not null,
    sequence bigint not null,
    primary key (group_name, topic, partition, producer)
);

-- Raised by a swap and not by another member: whoever owned the partition before goes on with it at once.
alter table consumer_offsets add column swapped boolean not null default false;

-- Makes a shadow's table as the live one is: columns, checks, keys and indexes, hypertable or native partitions.
create function sentio_shadow_table(shadow text, name text) returns void
language plpgsql as $$
declare
    live regclass := name::regclass;
    time_column text;
    width interval;
begin
    if exists (select from pg_extension where extname = 'timescaledb') then
        select d.column_name, d.time_interval into time_column, width
        from timescaledb_information.dimensions as d
        join pg_class on pg_class.relname = d.hypertable_name and pg_class.oid = live
        join pg_namespace on pg_namespace.oid = relnamespace and nspname = d.hypertable_schema
        where d.dimension_number = 1;
    end if;
    if time_column is not null then
        execute format('create table %I.%I (like %s including all)', shadow, name, live);
        execute format('select create_hypertable(%L, by_range(%L, interval %L), create_default_indexes => false)',
            format('%I.%I', shadow, name), time_column, width);
    elsif (select relkind from pg_class where oid = live) = 'p' then
        execute format('create table %I.%I (like %s including all) partition by %s',
            shadow, name, live, pg_get_partkeydef(live));
        execute format('create table %I.%I partition of %I.%I default', shadow, name || '_default', shadow, name);
    else
        execute format('create table %I.%I (like %s including all)', shadow, name, live);
    end if;
end $$;
