// Charts, by uPlot where it was built, and the heat map. Each has its numbers as a table beside it.

import { amount, clock, count } from "./format.js";
import { fill } from "./tables.js";

const ROWS = ["≤1 ms", "2", "5", "10", "20", "50", "100", "200", "500", "1 s", "2 s", "5 s", "more"];
const MINUTES = 1440;
const SERIES = ["--strong", "--good", "--warn", "--bad", "--quiet"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const uPlot = import("./vendor/uPlot.js").then((found) => found.default, () => undefined);
const plots = new Map();

/** A table under a chart is made when it is opened, and kept new from then on: `make` gives what `fill` is told. */
function under(id, make) {
  const table = document.getElementById(id);
  const details = table.closest("details");
  details.ontoggle = () => details.open && fill(table, ...make());
  details.ontoggle();
}

/** `lines` are [name, values]; times in seconds. Made anew only where the lines are others. */
export async function plot(id, times, lines) {
  const place = document.getElementById(id);
  const Plot = await uPlot;
  if (!Plot) {
    place.className = "chart none";
    place.textContent = "Charts need 'make setup' with npm; the figures are in the table.";
    return;
  }
  const names = lines.map(([name]) => name).join();
  const known = plots.get(id);
  const data = [times, ...lines.map(([, values]) => values)];
  if (known?.names === names) {
    known.plot.setData(data);
    return;
  }
  known?.plot.destroy();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: place.clientWidth,
    height: 200,
    tzDate: (s) => Plot.tzDate(new Date(s * 1000), "America/New_York"),
    legend: { show: lines.length > 1, live: false },
    axes: [{ ...axis, values: (_, all) => all.map((s) => clock(s * 1000).slice(0, 5)) }, { ...axis, size: 76, values: (_, all) => all.map((value) => count(value)) }],
    series: [
      {},
      ...lines.map(([label], place) => ({
        label,
        stroke: colour(SERIES[place % SERIES.length]),
        width: 1.5,
        dash: place >= SERIES.length ? [5, 4] : undefined,
        points: { show: times.length < 3 },
      })),
    ],
  };
  plots.set(id, { names, plot: new Plot(options, data, place) });
}

/** Sizes and colours follow the window and the theme. */
export function redraw(again) {
  const anew = () => {
    for (const { plot } of plots.values()) plot.destroy();
    plots.clear();
    again();
  };
  let waiting;
  addEventListener("resize", () => (clearTimeout(waiting), (waiting = setTimeout(anew, 150))));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
}

export function showEquity(minutes) {
  const times = minutes.map((one) => Date.parse(one.minute_at) / 1000);
  void plot("equity-chart", times, [["equity", minutes.map((one) => Number(one.equity))]]);
  under("equity-table", () => [
    ["New York", "equity"],
    minutes.map((one) => [clock(one.minute_at), amount(one.equity)]).reverse(),
  ]);
}

export function showThroughput(minutes, now) {
  const all = [...minutes, ...(now ? [now] : [])];
  const names = Object.keys(all.at(-1)?.topics ?? {});
  const times = all.map((one) => Date.parse(one.at) / 1000);
  void plot("topics-chart", times, names.map((name) => [name, all.map((one) => one.topics[name] ?? null)]));
}

/** Counts by minute and by how long delivery took, of all gateways together. */
export function showHeat(minutes) {
  const canvas = document.getElementById("heat");
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = 156;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const draw = canvas.getContext("2d");
  draw.scale(ratio, ratio);
  const left = 48;
  const high = height / ROWS.length;
  const wide = (width - left) / MINUTES;
  draw.fillStyle = colour("--quiet");
  draw.font = "11px system-ui, sans-serif";
  draw.textBaseline = "middle";
  ROWS.forEach((text, row) => draw.fillText(text, 0, height - (row + 0.5) * high));
  const columns = minutes.map((one) => [Date.parse(one.at), sum(Object.values(one.latency ?? {}))]);
  const most = Math.max(1, ...columns.flatMap(([, counts]) => counts));
  const end = Math.floor(Date.now() / 60_000) * 60_000;
  const heat = colour("--heat");
  for (const [at, counts] of columns) {
    const place = MINUTES - 1 - (end - at) / 60_000;
    if (place < 0) continue;
    counts.forEach((events, row) => {
      if (!events) return;
      const depth = 0.15 + 0.85 * (Math.log1p(events) / Math.log1p(most));
      draw.fillStyle = `rgb(${heat} / ${depth})`;
      draw.fillRect(left + place * wide, height - (row + 1) * high, Math.max(wide, 1.5), high - 1);
    });
  }
  draw.strokeStyle = colour("--line");
  draw.strokeRect(left, 0.5, width - left - 0.5, height - 1);
  canvas.dataset.minutes = columns.length;
  under("heat-table", () => [
    ["New York", ...ROWS],
    columns.slice(-60).map(([at, counts]) => [clock(at).slice(0, 5), ...counts.map(String)]).reverse(),
  ]);
}

function sum(all) {
  return all.reduce((total, counts) => total.map((value, row) => value + counts[row]), new Array(ROWS.length).fill(0));
}
