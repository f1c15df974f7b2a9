-- One table for each stored topic of schemas/topics.toml; columns are named and typed as the event's fields.

select sentio_event_table('trades', 'executed_at', $$
    account text collate "C" not null,
    strategy text collate "C" not null,
    symbol text collate "C" not null,
    action text collate "C" not null check (action in ('ENTRY', 'EXIT')),
    side text collate "C" not null check (side in ('BUY', 'SELL')),
    quantity numeric(28, 8) not null check (quantity > 0),
    price numeric(28, 10) not null check (price > 0),
    realized_pnl numeric(28, 6),
    fees numeric(28, 6) not null,
    reason text not null,
    order_id text,
    executed_at timestamptz not null $$);
create index trades_by_symbol on trades (symbol, executed_at);

select sentio_event_table('signals', 'generated_at', $$
    symbol text collate "C" not null,
    direction text collate "C" not null check (direction in ('NEUTRAL', 'LONG', 'SHORT')),
    probability float8 not null check (probability between 0 and 1),
    confidence float8 not null check (confidence between 0 and 1),
    bar_id bigint not null,
    generated_at timestamptz not null $$);
create index signals_by_symbol on signals (symbol, generated_at);

select sentio_event_table('positions', 'updated_at', $$
    account text collate "C" not null,
    symbol text collate "C" not null,
    quantity numeric(28, 8) not null,
    average_entry numeric(28, 10) not null check (average_entry >= 0),
    mark numeric(28, 10) not null check (mark >= 0),
    unrealized_pnl numeric(28, 6) not null,
    realized_pnl numeric(28, 6) not null,
    updated_at timestamptz not null $$);
create index positions_by_account on positions (account, symbol, updated_at);

select sentio_event_table('performance', 'minute_at', $$
    account text collate "C" not null,
    equity numeric(28, 6) not null,
    day_return numeric(28, 10) not null,
    open_positions int not null check (open_positions >= 0),
    realized_pnl numeric(28, 6) not null,
    unrealized_pnl numeric(28, 6) not null,
    minute_at timestamptz not null $$);
create index performance_by_account on performance (account, minute_at);

select sentio_event_table('bars', 'minute_at', $$
    symbol text collate "C" not null,
    open numeric(28, 10) not null check (open > 0),
    high numeric(28, 10) not null check (high > 0),
    low numeric(28, 10) not null check (low > 0),
    close numeric(28, 10) not null check (close > 0),
    volume numeric(28, 8) not null check (volume >= 0),
    minute_at timestamptz not null,
    check (low <= least(open, close) and high >= greatest(open, close)) $$);
create index bars_by_symbol on bars (symbol, minute_at);

select sentio_event_table('prices', 'observed_at', $$
    symbol text collate "C" not null,
    price numeric(28, 10) not null check (price > 0),
    source text collate "C" not null,
    observed_at timestamptz not null $$);
create index prices_by_symbol on prices (symbol, observed_at);
