-- Which windows wait to be announced, kept so that a window's next change touches no index: an index on the revision
-- made every update write all of the table's indexes anew. And quotients to 40 places before they are rounded, which
-- no longest amount (28 digits) can bring so close to a half that the rounding would see it as one.

alter table windows add column unannounced_since timestamptz default now();
update windows set unannounced_since = null where revision <= published_revision;
drop index windows_to_publish;
create index windows_unannounced on windows (unannounced_since) where unannounced_since is not null;
alter table windows set (fillfactor = 80);

-- Highest and lowest minute close of an account's day, from which the drawdown of its week and month is known.
alter table windows add column close_high numeric, add column close_low numeric;
update windows as day
set close_high = minutes.highest, close_low = minutes.lowest
from (
    select account, (date_trunc('day', start_at at time zone 'America/New_York')) at time zone 'America/New_York' as day_at,
        max(equity_close) as highest, min(equity_close) as lowest
    from windows where kind = 'MINUTE' and equity_close is not null group by 1, 2
) as minutes
where day.account = minutes.account and day.strategy = '*' and day.symbol = '*' and day.kind = 'DAY'
    and day.start_at = minutes.day_at;

-- A ratio to ten places; null where it has no room in aggregates.updated (18 digits before the point), as it has none
-- when it is of a millionth of a dollar.
create function ratio_or_null(amount numeric) returns numeric
language sql immutable parallel safe as $$
    select case when abs(round_half_even(amount, 10)) < 1e18 then round_half_even(amount, 10) end
$$;

create or replace view statistics as
select account, strategy, symbol, kind, start_at, revision, updated_at,
    fills, trades, wins, losses,
    volume::numeric(28, 8) as volume,
    notional::numeric(28, 6) as notional,
    fees::numeric(28, 6) as fees,
    realized_pnl::numeric(28, 6) as realized_pnl,
    gross_profit::numeric(28, 6) as gross_profit,
    gross_loss::numeric(28, 6) as gross_loss,
    round_half_even(wins::numeric(60, 40) / nullif(trades, 0), 10) as win_rate,
    round_half_even(gross_profit::numeric(80, 40) / nullif(wins, 0), 6) as average_win,
    round_half_even(gross_loss::numeric(80, 40) / nullif(losses, 0), 6) as average_loss,
    ratio_or_null(gross_profit::numeric(80, 40) / nullif(gross_loss, 0)) as profit_factor,
    equity_open::numeric(28, 6) as equity_open,
    equity_high::numeric(28, 6) as equity_high,
    equity_low::numeric(28, 6) as equity_low,
    equity_close::numeric(28, 6) as equity_close,
    ratio_or_null(equity_close::numeric(80, 40) / nullif(equity_open, 0) - 1) as equity_return,
    ratio_or_null(max_drawdown) as max_drawdown
from windows;
