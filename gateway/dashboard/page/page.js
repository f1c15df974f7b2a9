// The owner's page: asks the watcher's word again and again, and follows the stream as any client.

import { ask, first, forget, Refused, remember, token } from "./api.js";
import { redraw, showEquity, showHeat, showThroughput } from "./charts.js";
import { showFigures } from "./figures.js";
import { amount, clock, count, milliseconds, moment, seconds } from "./format.js";
import { Live } from "./live.js";
import { element, fill } from "./tables.js";

const AGAIN_MS = 2000;
const LATE_MS = 5000;
const DAY_MS = 86_400_000;
const ENDED_BADLY = new Set(["failed", "interrupted"]);

const at = (id) => document.getElementById(id);
const live = new Live();
let answer;
let minutes = [];
let equity = { key: "", minutes: [] };
let chosen = "";
let heardMs = 0;
let due = false;

async function begin(asked = ask("state")) {
  for (;;) {
    try {
      answer = await asked;
      break;
    } catch (failure) {
      if (failure instanceof Refused) return login(token() ? failure.message : "");
      at("freshness").textContent = failure.message;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      asked = ask("state");
    }
  }
  heardMs = performance.now();
  at("login").hidden = true;
  at("page").hidden = false;
  at("leave").hidden = !token();
  void live.follow(answer.stream, heard);
  void keepMinutes();
  show();
  redraw(() => (showEquity(equity.minutes), showMinutes()));
  setInterval(showFreshness, 500);
  for (;;) {
    try {
      answer = await ask("state", { after: answer.at });
      heardMs = performance.now();
      show();
    } catch (failure) {
      if (failure instanceof Refused) return leave();
      at("freshness").textContent = failure.message;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

function login(why) {
  at("freshness").textContent = "signed out";
  at("page").hidden = true;
  at("login").hidden = false;
  at("refusal").textContent = why;
  at("token").focus();
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  remember(at("token").value.trim());
  at("token").value = "";
  void begin();
});
at("leave").addEventListener("click", leave);
at("account").addEventListener("change", () => ((chosen = at("account").value), show()));

function leave() {
  forget();
  location.reload();
}

/** Many events of one moment are shown at once. */
function heard(item) {
  if (item?.type === "update" && item.kind === "performance") addMinute(item.event);
  if (due) return;
  due = true;
  requestAnimationFrame(() => ((due = false), show()));
}

function addMinute(event) {
  if (!equity.key.startsWith(`${event.account} `)) return;
  if (Date.parse(event.minute_at) <= Date.parse(equity.minutes.at(-1)?.minute_at ?? 0)) return;
  equity.minutes.push({ minute_at: event.minute_at, equity: event.equity });
  showEquity(equity.minutes);
}

async function keepMinutes() {
  for (;;) {
    try {
      const since = minutes.at(-1)?.at ?? new Date(Date.now() - DAY_MS).toISOString();
      const found = (await ask("minutes", { since })).minutes;
      minutes = [...minutes.filter((one) => one.at < since), ...found].slice(-DAY_MS / 60_000);
      showMinutes();
    } catch {
      // The next one asks for what is missing, too.
    }
    await new Promise((resolve) => setTimeout(resolve, 20_000));
  }
}

function showMinutes() {
  showHeat(minutes);
  const topics = Object.fromEntries(answer.state.topics.map((one) => [one.topic, one.per_s]));
  showThroughput(minutes, { at: answer.at, topics });
}

async function keepEquity(one) {
  const key = `${one.account} ${one.day}`;
  if (equity.key === key) return;
  equity = { key, minutes: [] };
  try {
    const found = (await ask("equity", { account: one.account, day: one.day })).minutes;
    if (equity.key === key) equity.minutes = found;
    showEquity(equity.minutes);
  } catch {
    equity.key = "";
  }
}

function show() {
  const state = answer.state;
  showAlerts(state);
  const names = state.accounts.map((one) => one.account);
  if (!names.includes(chosen)) chosen = names[0] ?? "";
  pick(names);
  const one = state.accounts.find((each) => each.account === chosen);
  if (one) {
    at("day").textContent = `${one.day} (New York)`;
    showFigures(state, one, own(one));
    void keepEquity(one);
  }
  showFeeds();
  showPlatform(state);
  showFreshness();
}

/** What this page's own client knows of an account. */
function own(one) {
  const newest = live.performance.get(one.account);
  return { ...(newest && { equity: newest.equity, open_positions: newest.open_positions }) };
}

function pick(names) {
  at("pick").hidden = names.length < 2;
  if (at("account").said === names.join()) return;
  at("account").said = names.join();
  at("account").replaceChildren(...names.map((name) => element("option", { textContent: name, selected: name === chosen })));
}

function showAlerts(state) {
  const lines = state.alerts.map((one) => `${one.alert}: ${one.summary}`);
  // A difference is shown at once; the alert waits until it has lasted.
  if (state.differing && !state.alerts.some((one) => one.alert === "divergence")) lines.push(`${state.differing} figures differ`);
  const told = JSON.stringify(lines);
  const place = at("alerts");
  if (place.told === told) return;
  place.told = told;
  place.classList.toggle("bad", lines.length > 0);
  at("alerts-title").textContent = lines.length ? `${lines.length === 1 ? "Something is" : `${lines.length} things are`} wrong` : "All is well";
  at("alert-list").replaceChildren(
    ...lines.map((line, place) => {
      const alert = state.alerts[place];
      const item = element("li", { textContent: line });
      if (!alert) return item;
      item.append(` (since ${clock(alert.at)}) `);
      const known = /^https?:/.test(alert.runbook);
      item.append(known ? element("a", { href: alert.runbook, textContent: "What to do" }) : `What to do: ${alert.runbook}`);
      return item;
    }),
  );
}

function showFeeds() {
  const held = [...live.positions.values()].filter((one) => one.account === chosen);
  fill(
    at("positions"),
    ["Symbol", "quantity", "mark", "unrealized"],
    held.map((one) => [one.symbol, count(one.quantity), amount(one.mark), amount(one.unrealized_pnl)]),
    { empty: "nothing is held" },
  );
  fill(
    at("trades"),
    ["New York", ["", "text"], ["Symbol", "text"], "quantity", "price", "P&L"],
    live.trades.map((one) => [
      clock(one.executed_at),
      [one.side, one.side === "BUY" ? "text long" : "text short"],
      [one.symbol, "text"],
      count(one.quantity),
      amount(one.price),
      one.realized_pnl === null ? "" : amount(one.realized_pnl),
    ]),
    { empty: "no trade yet" },
  );
  const signals = [...live.signals.values()].sort((one, other) => one.symbol.localeCompare(other.symbol));
  fill(
    at("signals"),
    ["Symbol", ["", "text"], "probability", "at"],
    signals.map((one) => [
      one.symbol,
      [one.direction, `text ${one.direction.toLowerCase()}`],
      amount(one.probability, 3),
      clock(one.generated_at),
    ]),
    { empty: "no signal yet" },
  );
}

function showPlatform(state) {
  fill(
    at("probes"),
    ["Gateway", "p50", "p99", ["probe", "text"]],
    state.probes.map((one) => [one.gateway, milliseconds(one.p50_ms), milliseconds(one.p99_ms), [`${one.state} ${one.detail}`, "text"]]),
  );
  fill(
    at("groups"),
    ["Group", "behind", "events", "retention left"],
    state.groups.map((one) => [one.group, seconds(one.seconds), count(one.records), seconds(one.retention_left_s)]),
  );
  fill(
    at("topics"),
    ["Topic", "a second", "dead letters, 5 min", "kept"],
    state.topics.map((one) => [one.topic, amount(one.per_s, 1), [count(one.dead), one.dead ? "bad" : ""], count(one.dead_total)]),
  );
  const nowMs = Date.parse(answer.now);
  fill(
    at("engines"),
    ["Engine", ["version", "text"], ["state", "text"], "last beat"],
    state.engines.map((one) => [
      one.engine,
      [one.version, "text"],
      [`${one.state}, ${one.mode}`, "text"],
      `${seconds(Math.max(0, nowMs - Date.parse(one.heard_at)) / 1000)} ago`,
    ]),
    { empty: "no engine has been heard" },
  );
  fill(
    at("clients"),
    ["Instance of the stream", ["client", "text"], "connected"],
    (state.clients ?? []).map((one) => [one.instance, [one.client, "text"], count(one.count)]),
    { empty: state.clients ? "no client" : "told where SENTIO_REDIS is set" },
  );
  fill(
    at("targets"),
    ["Alerts go to", "sent", "waiting", ["", "text"]],
    state.targets.map((one) => [one.target, count(one.sent), count(one.waiting), [one.wrong ?? "", "text bad"]]),
    { empty: "nobody: set SENTIO_ALERT_WEBHOOK or SENTIO_ALERT_MAIL_TO" },
  );
  fill(
    at("replays"),
    ["Replay", ["state", "text"], "done", "written", "New York", ["what", "text"], ["into", "text"], ["on", "text"], ["cause", "text"]],
    state.replays.map((one) => [
      one.id,
      [one.state, ENDED_BADLY.has(one.state) ? "text bad" : "text"],
      one.offsets ? `${count(Math.floor((100 * one.offsets_done) / one.offsets))} %` : "–",
      count(one.records_written),
      moment(one.updated_at),
      [one.what, "text"],
      [one.target, "text"],
      [one.machine, "text"],
      [one.cause ?? "", "text bad"],
    ]),
    { empty: "no replay yet" },
  );
}

/** How old the watcher's word is, by the server's clock and the time since we have it. */
function showFreshness() {
  const oldMs = Date.parse(answer.now) - Date.parse(answer.at) + (performance.now() - heardMs);
  const late = oldMs > LATE_MS;
  const pill = at("freshness");
  const stream = live.status.state === "open" ? "" : `, stream ${live.status.state} ${live.status.detail}`;
  pill.textContent = (late ? `not heard of the watcher for ${seconds(oldMs / 1000)}` : "live") + stream;
  pill.className = `pill ${late || stream ? "late" : "live"}`;
}

void begin(first);
