-- Native partitions of a day for what is kept for days only, so that age can be dropped with them.

-- Native partitions of a table with their bounds; none for a hypertable, whose chunks TimescaleDB lists itself.
create function sentio_partitions(name text) returns table (part regclass, first_at timestamptz, next_at timestamptz)
language sql stable set timezone = 'UTC' as $$
    select inhrelid::regclass, bounds[1]::timestamptz, bounds[2]::timestamptz
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    cross join regexp_match(pg_get_expr(relpartbound, inhrelid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
    where inhparent = name::regclass and bounds is not null
$$;

drop function sentio_partition_for(text, text, date);

-- Makes the partition of a table for the day or month (in UTC, ``width``) that holds an instant. Nothing to do on
-- hypertables, nor where a partition has it already. A time that is far off (a clock gone wrong) stays in the default partition, as
-- does one whose day or month already has rows there.
create function sentio_partition_for(name text, time_column text, instant timestamptz, width text) returns void
language plpgsql as $$
declare
    since timestamptz := date_trunc(width, instant, 'UTC');
    till timestamptz := (since at time zone 'UTC' + ('1 ' || width)::interval) at time zone 'UTC';
    part text := name || to_char(since at time zone 'UTC', case width when 'day' then '_YYYY_MM_DD' else '_YYYY_MM' end);
    taken boolean;
begin
    if (select relkind from pg_class where oid = name::regclass) <> 'p'
        or since < '2000-01-01' or since > now() + interval '1 year' then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext(name));
    if exists (select from sentio_partitions(name) as p where p.first_at < till and p.next_at > since) then
        return;
    end if;
    execute format('select exists (select from %I where %I >= %L and %I < %L)',
        name || '_default', time_column, since, time_column, till) into taken;
    if not taken then
        execute format('create table %I partition of %I for values from (%L) to (%L)', part, name, since, till);
    end if;
end $$;

do $$ begin
    if exists (select from pg_extension where extname = 'timescaledb') then
        perform set_chunk_time_interval('prices', interval '1 day');
    end if;
end $$;
