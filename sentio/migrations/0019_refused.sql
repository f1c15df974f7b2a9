-- Records that a group refused, noted in the transaction of the rows beside them: one that comes again, as a redriven
-- dead letter, is applied only if it was refused, and not if it was taken from the log.
create table consumer_refused (
    group_name text collate "C" not null,
    topic text collate "C" not null,
    partition int not null,
    record_offset bigint not null,
    topic_id text not null,
    noted_at timestamptz not null default now(),
    primary key (group_name, topic, partition, record_offset)
);

-- From which offset on they are noted, and up to which; if that is not where the group stands, an older version has moved
-- it, and nothing is noted. Of letters of other records only their event ids are known.
alter table consumer_offsets add column noted_from bigint, add column noted_to bigint;

-- The record that a redriven event is of, or stands for where it was edited; null: applied before this was noted.
alter table consumer_redriven
    add column origin_topic text collate "C",
    add column origin_partition int,
    add column origin_offset bigint;
create unique index consumer_redriven_origin
    on consumer_redriven (group_name, origin_topic, origin_partition, origin_offset);
