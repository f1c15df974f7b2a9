-- Statistics per minute, day, week and month, merged batch by batch. '*' stands for all strategies or all symbols.
-- First and last equity are those of the smallest and largest (event time, producer, sequence).

create table windows (
    account text collate "C" not null,
    strategy text collate "C" not null,
    symbol text collate "C" not null,
    kind text collate "C" not null check (kind in ('MINUTE', 'DAY', 'WEEK', 'MONTH')),
    start_at timestamptz not null,
    revision bigint not null default 1,
    published_revision bigint not null default 0,
    updated_at timestamptz not null default now(),
    fills bigint not null default 0,
    trades bigint not null default 0,
    wins bigint not null default 0,
    losses bigint not null default 0,
    volume numeric not null default 0,
    notional numeric not null default 0,
    fees numeric not null default 0,
    realized_pnl numeric not null default 0,
    gross_profit numeric not null default 0,
    gross_loss numeric not null default 0,
    equity_open numeric,
    equity_open_at timestamptz,
    equity_open_producer text collate "C",
    equity_open_sequence bigint,
    equity_high numeric,
    equity_low numeric,
    equity_close numeric,
    equity_close_at timestamptz,
    equity_close_producer text collate "C",
    equity_close_sequence bigint,
    max_drawdown numeric,
    primary key (account, strategy, symbol, kind, start_at)
);
create index windows_by_start on windows (kind, start_at);
create index windows_to_publish on windows (updated_at) where revision > published_revision;

-- What readers see: each window with the figures that follow from its sums.
create view statistics as
select account, strategy, symbol, kind, start_at, revision, updated_at,
    fills, trades, wins, losses,
    volume::numeric(28, 8) as volume,
    notional::numeric(28, 6) as notional,
    fees::numeric(28, 6) as fees,
    realized_pnl::numeric(28, 6) as realized_pnl,
    gross_profit::numeric(28, 6) as gross_profit,
    gross_loss::numeric(28, 6) as gross_loss,
    round_half_even(wins::numeric(30, 20) / nullif(trades, 0), 10) as win_rate,
    round_half_even(gross_profit::numeric(50, 20) / nullif(wins, 0), 6) as average_win,
    round_half_even(gross_loss::numeric(50, 20) / nullif(losses, 0), 6) as average_loss,
    round_half_even(gross_profit::numeric(50, 20) / nullif(gross_loss, 0), 10) as profit_factor,
    equity_open::numeric(28, 6) as equity_open,
    equity_high::numeric(28, 6) as equity_high,
    equity_low::numeric(28, 6) as equity_low,
    equity_close::numeric(28, 6) as equity_close,
    round_half_even(equity_close::numeric(50, 20) / nullif(equity_open, 0) - 1, 10) as equity_return,
    round_half_even(max_drawdown, 10) as max_drawdown
from windows;
