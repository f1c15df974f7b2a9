-- Every window again, from the rows of the tables alone: what is in one of the two and not in the other.
-- psql's own calendar of New York, PostgreSQL's numerics; nothing of consumers/aggregates.
with fills as (
    select account, strategy, symbol, executed_at as at, quantity, realized_pnl, fees,
        round_half_even(price * quantity, 6) as notional
    from trades
),
spread as (
    select f.account, s.strategy, s.symbol, k.kind, k.start_at, f.quantity, f.realized_pnl, f.fees, f.notional
    from fills as f
    cross join lateral (values (f.strategy, f.symbol), (f.strategy, '*'), ('*', '*')) as s (strategy, symbol)
    cross join lateral (values
        ('MINUTE', date_trunc('minute', f.at)),
        ('DAY', date_trunc('day', f.at, 'America/New_York')),
        ('WEEK', date_trunc('week', f.at, 'America/New_York')),
        ('MONTH', date_trunc('month', f.at, 'America/New_York'))) as k (kind, start_at)
),
sums as (
    select account, strategy, symbol, kind, start_at,
        count(*) as fills,
        count(realized_pnl) as trades,
        count(*) filter (where realized_pnl > 0) as wins,
        count(*) filter (where realized_pnl < 0) as losses,
        sum(quantity) as volume,
        sum(notional) as notional,
        sum(fees) as fees,
        coalesce(sum(realized_pnl), 0) as realized_pnl,
        coalesce(sum(realized_pnl) filter (where realized_pnl > 0), 0) as gross_profit,
        coalesce(-sum(realized_pnl) filter (where realized_pnl < 0), 0) as gross_loss
    from spread
    group by account, strategy, symbol, kind, start_at
),
minutes as (
    select account, k.kind, k.start_at, minute_at, producer, sequence, equity
    from performance
    cross join lateral (values
        ('MINUTE', date_trunc('minute', minute_at)),
        ('DAY', date_trunc('day', minute_at, 'America/New_York')),
        ('WEEK', date_trunc('week', minute_at, 'America/New_York')),
        ('MONTH', date_trunc('month', minute_at, 'America/New_York'))) as k (kind, start_at)
),
equity as (
    select account, kind, start_at,
        (array_agg(equity order by minute_at, producer, sequence))[1] as equity_open,
        max(equity) as equity_high,
        min(equity) as equity_low,
        (array_agg(equity order by minute_at desc, producer desc, sequence desc))[1] as equity_close
    from minutes
    group by account, kind, start_at
),
peaks as (
    select account, kind, start_at, close, max(close) over (
        partition by account, kind, start_at order by minute) as peak
    from (
        select account, kind, start_at, date_trunc('minute', minute_at) as minute,
            (array_agg(equity order by minute_at desc, producer desc, sequence desc))[1] as close
        from minutes where kind <> 'MINUTE'
        group by account, kind, start_at, date_trunc('minute', minute_at)
    ) as closes
),
drawdowns as (
    select account, kind, start_at, max((peak - close) / nullif(greatest(peak, 0), 0)) as max_drawdown
    from peaks
    group by account, kind, start_at
),
expected as (
    select account, coalesce(s.strategy, '*') as strategy, coalesce(s.symbol, '*') as symbol, kind, start_at,
        coalesce(fills, 0) as fills, coalesce(trades, 0) as trades, coalesce(wins, 0) as wins,
        coalesce(losses, 0) as losses, coalesce(volume, 0) as volume, coalesce(notional, 0) as notional,
        coalesce(fees, 0) as fees, coalesce(realized_pnl, 0) as realized_pnl,
        coalesce(gross_profit, 0) as gross_profit, coalesce(gross_loss, 0) as gross_loss,
        equity_open, equity_high, equity_low, equity_close, round(max_drawdown, 10) as max_drawdown
    from sums as s
    full join (select *, '*' as strategy, '*' as symbol from equity left join drawdowns using (account, kind, start_at)) as e
        using (account, strategy, symbol, kind, start_at)
),
kept as (
    select account, strategy, symbol, kind, start_at, fills, trades, wins, losses, volume, notional, fees, realized_pnl,
        gross_profit, gross_loss, equity_open, equity_high, equity_low, equity_close, round(max_drawdown, 10) as max_drawdown
    from windows
)
select * from (
    select 'expected' as which, * from (select * from expected except all select * from kept) as missing
    union all
    select 'in the table', * from (select * from kept except all select * from expected) as wrong
) as differences
order by account, strategy, symbol, kind, start_at, which
limit 6
