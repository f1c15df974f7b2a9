// Figures as people read them. Amounts come as text and stay exact until here.

const amounts = new Map();

/** "100025.798" as 100,025.80. */
export function amount(text, places = 2) {
  if (text === null || text === undefined) return "–";
  if (!amounts.has(places)) {
    amounts.set(places, new Intl.NumberFormat("en", { minimumFractionDigits: places, maximumFractionDigits: places }));
  }
  return amounts.get(places).format(text); // of text it loses no digit
}

export function signed(text, places = 2) {
  const shown = amount(text, places);
  return /^[-–]/.test(shown) ? shown : `+${shown}`;
}

/** "0.0219841414" as 2.198 %. */
export function percent(text, shown = amount) {
  return text === null || text === undefined ? "–" : `${shown(Number(text) * 100, 3)} %`;
}

export function count(value) {
  return value === null || value === undefined ? "–" : amount(value, 0);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 1000 ? `${amount(value, value < 10 ? 1 : 0)} ms` : `${amount(value / 1000, 1)} s`;
}

export function seconds(value) {
  if (value < 120) return `${amount(value, 1)} s`;
  return value < 7200 ? `${amount(value / 60, 0)} min` : value < 172800 ? `${amount(value / 3600, 1)} h` : `${amount(value / 86400, 1)} d`;
}

/** A time in New York. Where it is not needed at once it is not made: it takes a browser longer than all else here. */
function newYork(parts) {
  let made;
  return (text) => (made ??= new Intl.DateTimeFormat("en-GB", { timeZone: "America/New_York", ...parts })).format(new Date(text));
}

/** As clocks there show it. */
export const clock = newYork({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** The same with its day: "10 Oct, 09:31". */
export const moment = newYork({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** How each figure is shown. */
export const FIGURES = {
  equity: ["Equity, USD", amount],
  drawdown: ["Drawdown", percent],
  open_positions: ["Open positions", count],
  exposure: ["Held at marks, USD", amount],
  fills: ["Fills", count],
  realized_pnl: ["Realized, USD", amount],
  notional: ["Traded, USD", amount],
  newest_trade: ["Newest trade", (id) => (id ? id.slice(-8) : "–")],
};
