-- Which windows wait to be announced: the keys of those that one transaction changed, up to 5,000 in a row. A mark in
-- each window made every announcement write the window and all of its indexes once more.
create table window_changes (
    id bigint generated always as identity primary key,
    windows int not null,
    account text[] collate "C" not null,
    strategy text[] collate "C" not null,
    symbol text[] collate "C" not null,
    kind text[] collate "C" not null,
    start_at timestamptz[] not null
);
insert into window_changes (windows, account, strategy, symbol, kind, start_at)
select count(*), array_agg(account), array_agg(strategy), array_agg(symbol), array_agg(kind), array_agg(start_at)
from (select *, (row_number() over () - 1) / 5000 as part from windows where revision > published_revision) as waiting
group by part;
drop index windows_unannounced;
alter table windows drop column unannounced_since, drop column published_revision;

-- The key that is looked up for every window of a batch, and written for every new one, begins with what tells windows
-- apart: names that many windows share are compared last. Readers who page by time find their order in it.
drop index windows_by_start;
alter table windows drop constraint windows_pkey;
alter table windows add primary key (kind, start_at, account, strategy, symbol);
create index windows_by_account on windows (account, strategy, symbol, kind, start_at);
