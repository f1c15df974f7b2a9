// Typed events of the stream. Generated from schemas/avro by clients/generate.py; do not edit.

/** An exact decimal as text, such as "101.25". Not a number on purpose: a number would round it. */
export type Decimal = string;

/** A time in UTC as RFC 3339 text with microseconds, such as "2025-10-10T13:31:00.000000Z". */
export type Timestamp = string;

/** What every event carries; all three are missing in a snapshot of `aggregates`. */
export interface Event {
  /** UUID; the same on every resend of this event. */
  readonly event_id?: string;
  /** Name and source (or run) of the publisher. */
  readonly producer?: string;
  /** Position among the producer's events, from 0. */
  readonly sequence?: number;
}

/** Newest state of one window of statistics; the highest revision is the true one. */
export interface AggregateUpdated extends Event {
  /** Trading account, e.g. paper-2025-10-10. */
  readonly account: string;
  /** Strategy, or * for all of the account. */
  readonly strategy: string;
  /** Instrument, or * for all of the account. */
  readonly symbol: string;
  /** Length of the window, in New York trading time. */
  readonly kind: "MINUTE" | "DAY" | "WEEK" | "MONTH";
  /** Start of the window, UTC. */
  readonly start_at: Timestamp;
  /** Counts the changes of this window, from 1. */
  readonly revision: number;
  /** Fills in the window. */
  readonly fills: number;
  /** Round trips closed in the window (fills with a realized_pnl). */
  readonly trades: number;
  /** Round trips above zero. */
  readonly wins: number;
  /** Round trips below zero. */
  readonly losses: number;
  /** Shares filled. */
  readonly volume: Decimal;
  /** Sum of price times quantity of each fill, in USD. */
  readonly notional: Decimal;
  /** Costs, in USD; already inside realized_pnl. */
  readonly fees: Decimal;
  /** USD realized. */
  readonly realized_pnl: Decimal;
  /** Sum of the winning round trips, in USD. */
  readonly gross_profit: Decimal;
  /** Sum of the losing round trips, in USD, as a positive figure. */
  readonly gross_loss: Decimal;
  /** wins / trades; null without trades. */
  readonly win_rate: Decimal | null;
  /** gross_profit / wins; null without wins. */
  readonly average_win: Decimal | null;
  /** gross_loss / losses, positive; null without losses. */
  readonly average_loss: Decimal | null;
  /** gross_profit / gross_loss; null without losses. */
  readonly profit_factor: Decimal | null;
  /** First equity of the window, in USD; whole-account windows only. */
  readonly equity_open: Decimal | null;
  /** Highest equity of the window, in USD. */
  readonly equity_high: Decimal | null;
  /** Lowest equity of the window, in USD. */
  readonly equity_low: Decimal | null;
  /** Last equity of the window, in USD. */
  readonly equity_close: Decimal | null;
  /** equity_close / equity_open, minus one. */
  readonly equity_return: Decimal | null;
  /** Deepest fall of the minute closes below their running peak, as a fraction of the peak. */
  readonly max_drawdown: Decimal | null;
  /** When this revision was written, UTC. */
  readonly updated_at: Timestamp;
}

/** The engine is alive; silence is an alarm. */
export interface EngineHeartbeat extends Event {
  /** Name of the engine. */
  readonly engine: string;
  /** Version of the engine. */
  readonly version: string;
  /** What it trades on: live, paper, mock or replay. */
  readonly mode: string;
  /** What it is doing: starting, running, flat or stopped. */
  readonly state: string;
  /** When it said so, UTC. */
  readonly beat_at: Timestamp;
}

/** An account at the end of one minute. */
export interface PerformanceMinute extends Event {
  /** Trading account, e.g. paper-2025-10-10. */
  readonly account: string;
  /** Initial capital plus realized and unrealized profit and loss, in USD. */
  readonly equity: Decimal;
  /** Equity over the day's opening equity, minus one. */
  readonly day_return: Decimal;
  /** Positions held. */
  readonly open_positions: number;
  /** USD realized so far this day. */
  readonly realized_pnl: Decimal;
  /** USD that closing everything at the marks would realize. */
  readonly unrealized_pnl: Decimal;
  /** Start of the minute on the engine's clock, UTC. */
  readonly minute_at: Timestamp;
}

/** State of one position after a change or a minute; quantity 0 closes it. */
export interface PositionUpdated extends Event {
  /** Trading account, e.g. paper-2025-10-10. */
  readonly account: string;
  /** Instrument, e.g. TQQQ. */
  readonly symbol: string;
  /** Signed shares held: above zero long, below zero short, zero none. */
  readonly quantity: Decimal;
  /** Average price per share paid or received for what is held, in USD; 0 when nothing is held. */
  readonly average_entry: Decimal;
  /** Price per share that the position is valued at, in USD. */
  readonly mark: Decimal;
  /** USD that closing at the mark would realize. */
  readonly unrealized_pnl: Decimal;
  /** USD realized in this symbol and account so far. */
  readonly realized_pnl: Decimal;
  /** When the position had this state on the engine's clock, UTC. */
  readonly updated_at: Timestamp;
}

/** One-minute bar of one symbol. */
export interface PriceBar extends Event {
  /** Instrument, e.g. TQQQ. */
  readonly symbol: string;
  /** First price of the minute, in USD. */
  readonly open: Decimal;
  /** Highest price of the minute, in USD. */
  readonly high: Decimal;
  /** Lowest price of the minute, in USD. */
  readonly low: Decimal;
  /** Last price of the minute, in USD. */
  readonly close: Decimal;
  /** Shares traded in the minute. */
  readonly volume: Decimal;
  /** Start of the minute, UTC. */
  readonly minute_at: Timestamp;
}

/** A price from outside the engine. */
export interface PriceUpdated extends Event {
  /** Instrument, e.g. TQQQ. */
  readonly symbol: string;
  /** Price per share, in USD. */
  readonly price: Decimal;
  /** Who says so. */
  readonly source: string;
  /** When the source observed it, UTC. */
  readonly observed_at: Timestamp;
}

/** One symbol's signal of one bar. */
export interface SignalGenerated extends Event {
  /** Instrument, e.g. TQQQ. */
  readonly symbol: string;
  /** What the strategy would do. */
  readonly direction: "NEUTRAL" | "LONG" | "SHORT";
  /** Estimated probability that the price rises, 0 to 1. */
  readonly probability: number;
  /** The strategy's own confidence in it, 0 to 1. */
  readonly confidence: number;
  /** Identity of the bar on the engine's side. */
  readonly bar_id: number;
  /** When the signal was made on the engine's clock, UTC. */
  readonly generated_at: Timestamp;
}

/** One fill, as the engine reported it. */
export interface TradeExecuted extends Event {
  /** Trading account, e.g. paper-2025-10-10. */
  readonly account: string;
  /** Strategy that decided. */
  readonly strategy: string;
  /** Instrument, e.g. TQQQ. */
  readonly symbol: string;
  /** ENTRY opens or adds to a position, EXIT closes or reduces one. */
  readonly action: "ENTRY" | "EXIT";
  /** Side of the fill in the market. */
  readonly side: "BUY" | "SELL";
  /** Shares filled, always above zero. */
  readonly quantity: Decimal;
  /** Price per share at which it was filled, in USD. */
  readonly price: Decimal;
  /** USD gained by the round trip that this fill closes, after all of its costs; null unless it closes one.
   * */
  readonly realized_pnl: Decimal | null;
  /** USD of costs charged with this fill; already inside realized_pnl. */
  readonly fees: Decimal;
  /** Why the engine traded, in its own words. */
  readonly reason: string;
  /** Order that this fill belongs to, where the engine has one. */
  readonly order_id: string | null;
  /** When the fill happened on the engine's clock, UTC. */
  readonly executed_at: Timestamp;
}

/** The event of each channel. */
export interface Channels {
  readonly trades: TradeExecuted;
  readonly signals: SignalGenerated;
  readonly positions: PositionUpdated;
  readonly performance: PerformanceMinute;
  readonly bars: PriceBar;
  readonly prices: PriceUpdated;
  readonly engine: EngineHeartbeat;
  readonly aggregates: AggregateUpdated;
}
