// The account's figures, and beside each who says the same.

import { FIGURES, amount, clock, count, percent, signed } from "./format.js";
import { element } from "./tables.js";

const TILES = ["equity", "drawdown", "open_positions", "realized_pnl"];
const PAGE = "this page";

/** What is only on its way has come by then. */
const ON_ITS_WAY_MS = 5000;

/** Since when this page has heard another value than the engine said, by account and figure. */
const apart = new Map();

/** `state` is the watcher's, `one` its account on show, `heard` what this page's own client knows of it. */
export function showFigures(state, one, heard) {
  const differences = state.differences.filter((each) => each.account === one.account);
  const by = (figure, side) => differences.find((each) => each.figure === figure && each.side === side);
  const clients = state.sides.filter((side) => side.side.includes("://"));
  const nameOf = (side) => (!side.side.includes("://") ? side.side : clients.length > 1 ? new URL(side.side).host : "client");

  document.getElementById("tiles").replaceChildren(
    ...TILES.map((figure) => {
      const [name, format] = FIGURES[figure];
      const value = element("dd", { textContent: format(one.engine[figure]) });
      value.dataset.figure = figure;
      value.dataset.value = one.engine[figure] ?? "";
      return element(
        "div",
        { className: differences.some((each) => each.figure === figure) ? "differs" : "" },
        element("dt", { textContent: name }),
        value,
      );
    }),
  );

  const head = ["Figure", "engine", ...state.sides.map(nameOf), PAGE];
  document.getElementById("compared-head").replaceChildren(
    ...head.map((text, place) => element("th", { scope: "col", textContent: text, className: place > 1 ? "mark" : "" })),
  );
  const rows = [];
  for (const [figure, [name, format]] of Object.entries(FIGURES)) {
    const engine = element("td", { textContent: format(one.engine[figure]), title: one.engine[figure] ?? "" });
    const row = element("tr", {}, element("th", { scope: "row", textContent: name }), engine);
    row.dataset.figure = figure;
    const found = [];
    for (const side of state.sides) {
      const difference = by(figure, side.side);
      if (difference) found.push([side, difference]);
      const value = one.sides[side.side]?.[figure] ?? "";
      row.append(mark(judge(side, figure, difference, one.compared[side.side]), nameOf(side), value));
    }
    row.append(mark(ownJudgement(`${one.account} ${figure}`, one.engine[figure], heard[figure]), PAGE, heard[figure] ?? ""));
    rows.push(row);
    if (!found.length) continue;
    row.className = "differs";
    for (const [side, each] of found) {
      const much = each.by === null ? "" : ` (${format === count ? signed(each.by, 0) : format === percent ? percent(each.by, signed) : signed(each.by)})`;
      const line = `${nameOf(side)} says ${format(each.other)}, the engine ${format(each.engine)}${much}, since ${clock(each.since)}`;
      const cell = element("td", { colSpan: head.length, textContent: line });
      const detail = element("tr", { className: "detail" }, cell);
      detail.dataset.difference = `${figure} ${side.side}`;
      rows.push(detail);
    }
  }
  document.getElementById("compared-body").replaceChildren(...rows);
}

function judge(side, figure, difference, compared) {
  if (!side.figures.includes(figure)) return ["–", "is not kept there", ""];
  if (difference) return ["≠", "not the same", "wrong"];
  if (!side.level) return ["…", side.detail || "cannot be compared now", ""];
  return compared.includes(figure) ? ["✓", "the same", "same"] : ["…", "the log does not hold the whole day", ""];
}

/** This page hears conflated messages, and a moment later: another value is only on its way. */
function ownJudgement(key, engine, heard) {
  if (heard === undefined) return ["–", "is not kept there", ""];
  if (Number(heard) === Number(engine)) {
    apart.delete(key);
    return ["✓", "the same", "same"];
  }
  if (!apart.has(key)) apart.set(key, performance.now());
  const late = performance.now() - apart.get(key) > ON_ITS_WAY_MS;
  return late ? ["≠", `not the same: ${amount(heard)} here`, "wrong"] : ["…", `${amount(heard)} here`, ""];
}

function mark([sign, words, kind], who, value) {
  const cell = element(
    "td",
    { className: `mark ${kind}`, title: `${who}: ${words}` },
    element("span", { textContent: sign, ariaHidden: "true" }),
    element("span", { textContent: words, className: "sr" }),
  );
  cell.dataset.side = who;
  cell.dataset.value = value;
  return cell;
}
