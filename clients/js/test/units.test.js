// The client without a connection: pauses, close codes, gaps, what is kept. `npm test` after `npm run build`.

import assert from "node:assert/strict";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Backoff, GOOD_MS, LONGEST_MS, SHORTEST_MS, SOON_MS, verdict } from "../dist/backoff.js";
import { Shown, localStorageCache } from "../dist/cache.js";
import { Channels } from "../dist/channels.js";
import { fileCache } from "../dist/file.js";
import { BadFrame, Refused, Stream } from "../dist/index.js";
import { endsAtMs, refreshInMs } from "../dist/token.js";

const update = (number, prev = null, more = {}) => ({
  type: "update",
  channel: "trades",
  seq: `0:${number}`,
  prev: prev === null ? null : `0:${prev}`,
  cursor: `c${number}`,
  at: "2025-10-10T13:30:00.001Z",
  data: { symbol: "TQQQ", price: "101.2500000001" },
  ...more,
});

function subscribed(names = ["trades"], cursors = {}) {
  const channels = new Channels(names, cursors);
  channels.connected();
  asked(channels);
  return channels;
}

/** What the client asks for, acknowledged. */
function asked(channels, nowMs = 0) {
  const requests = channels.requests(nowMs).map((text) => JSON.parse(text));
  for (const { id } of requests) channels.heard({ type: "ack", id }, nowMs);
  return requests;
}

const hear = (channels, ...frames) => frames.flatMap((frame) => channels.heard(frame, 0));
const names = (items) => items.map((item) => item.type + (item.seq ?? item.reason ?? ""));
const trade = (id) => ({ type: "update", channel: "trades", cursor: `c${id}`, event: { event_id: `${id}` } });

test("pauses vary up to a bound that doubles, and a good connection makes them short again", () => {
  const backoff = new Backoff(() => 1);
  const drawn = Array.from({ length: 12 }, () => backoff.pauseMs());
  assert.deepEqual(drawn.slice(0, 3), [SHORTEST_MS, 2 * SHORTEST_MS, 4 * SHORTEST_MS]);
  assert.equal(drawn.at(-1), LONGEST_MS);
  assert.equal(new Backoff(() => 0).pauseMs(), 0);
  backoff.lived(GOOD_MS - 1);
  assert.equal(backoff.pauseMs(), LONGEST_MS);
  backoff.lived(GOOD_MS);
  assert.equal(backoff.pauseMs(), SHORTEST_MS);
});

test("a restart is come back from at once, but not again and again", () => {
  const backoff = new Backoff(() => 1);
  assert.deepEqual([backoff.pauseMs(true), backoff.pauseMs(true)], [SOON_MS, 2 * SHORTEST_MS]);
});

test("44xx do not come back, 45xx do", () => {
  for (const code of [4400, 4401, 4403, 4429, 4499]) assert.equal(verdict(code, false), "never");
  for (const code of [1000, 1006, 1011, 4500, 4508]) assert.equal(verdict(code, false), "later");
  assert.equal(verdict(1012, false), "soon");
  assert.equal(verdict(4401, true), "new token");
  assert.equal(verdict(4403, true), "never");
});

test("a message that did not come is asked for again from the last good place", () => {
  const channels = subscribed();
  assert.deepEqual(names(hear(channels, update(1), update(2, 1))), ["update0:1", "update0:2"]);
  assert.deepEqual(names(hear(channels, update(4, 3), update(5, 4))), ["gapmissing"]);
  const [request] = channels.requests(0).map((text) => JSON.parse(text));
  assert.deepEqual(request.cursor, { trades: "c2" });
  assert.deepEqual(hear(channels, update(6, 5)), []);
  channels.heard({ type: "ack", id: request.id }, 0);
  assert.deepEqual(names(hear(channels, update(3), update(4, 3))), ["resumed", "update0:3", "update0:4"]);
});

test("what cannot be fetched is said to be lost, and the stream goes on", () => {
  const channels = subscribed();
  assert.deepEqual(names(hear(channels, update(1), update(3, 2))), ["update0:1", "gapmissing"]);
  asked(channels);
  assert.deepEqual(names(hear(channels, update(3, 2), update(4, 3))), ["gaplost", "resumed", "update0:3", "update0:4"]);
});

test("what was heard is not given twice, and a repeat that the gateway leaves out is no gap", () => {
  const channels = subscribed();
  assert.equal(hear(channels, update(1), update(2, 1), update(3, 2)).length, 3);
  assert.deepEqual(hear(channels, update(2, 1)), []);
  assert.deepEqual(names(hear(channels, update(4, 2))), ["update0:4"]);
});

test("on a new connection the cursor alone says what came before", () => {
  const channels = subscribed();
  hear(channels, update(1), update(2, 1));
  channels.connected();
  assert.deepEqual(asked(channels)[0].cursor, { trades: "c2" });
  // Offset 3 was a repeat that the former gateway left out; this one began behind the first of the two.
  assert.deepEqual(names(hear(channels, update(4, 3), update(5, 4))), ["resumed", "update0:4", "update0:5"]);
  assert.deepEqual(names(hear(channels, update(7, 6))), ["gapmissing"]);
});

test("each partition has its own order, and a conflated channel none", () => {
  const channels = subscribed();
  const frames = [update(1), update(7, null, { seq: "1:7" }), update(2, 1), update(8, 7, { seq: "1:8", prev: "1:7" })];
  assert.equal(hear(channels, ...frames).length, 4);
  assert.equal(hear(subscribed(), update(1), update(9), update(5)).length, 3);
});

test("coming back is said once a channel shows that it goes on", () => {
  const channels = subscribed(["trades"], { trades: "c1" });
  assert.deepEqual(hear(channels, { type: "heartbeat", cursors: {} }), [{ type: "position", cursors: {} }]);
  const beat = { type: "heartbeat", cursors: { trades: "c5" } };
  assert.deepEqual(names(hear(channels, beat, beat)), ["resumed", "position", "position"]);
  channels.connected();
  assert.deepEqual(asked(channels)[0].cursor, { trades: "c5" });
});

test("a cursor that is no good is a gap and a snapshot, and is not shown again", () => {
  const channels = subscribed(["trades"], { trades: "old" });
  const failed = { type: "resume_failed", channel: "trades", reason: "expired", message: "gone" };
  assert.deepEqual(hear(channels, failed), [{ type: "gap", channel: "trades", reason: "expired", message: "gone" }]);
  channels.connected();
  assert.deepEqual(asked(channels)[0].cursor, {});
  const [snapshot] = hear(channels, { type: "snapshot", channel: "trades", cursor: "new", truncated: true, data: [{}] });
  assert.deepEqual([snapshot.cursor, snapshot.truncated, snapshot.cached, snapshot.events], ["new", true, false, [{}]]);
});

test("what cannot be served now is asked for again when the gateway says", () => {
  const channels = subscribed(["trades", "signals"]);
  channels.heard({ type: "error", id: 1, code: "unavailable", channel: "signals", message: "", retry_s: 5 }, 1_000);
  assert.equal(channels.dueMs, 6_000);
  assert.deepEqual(asked(channels, 5_999), []);
  assert.deepEqual(asked(channels, 6_000)[0].channels, ["signals"]);
  channels.heard({ type: "error", id: 2, code: "too_many_requests", message: "", retry_s: 1 }, 7_000);
  assert.equal(channels.dueMs, 8_000);
});

test("a refused subscription and torn frames end the stream; what is not known is ignored", () => {
  const channels = subscribed();
  assert.throws(() => hear(channels, { type: "error", id: 1, code: "forbidden", message: "not granted" }), Refused);
  assert.throws(() => hear(channels, { ...update(1), cursor: undefined }), BadFrame);
  assert.throws(() => hear(channels, { ...update(1), seq: "x" }), BadFrame);
  assert.throws(() => hear(channels, { ...update(1), channel: "trades.SPY" }), BadFrame);
  assert.throws(() => hear(channels, { type: "heartbeat", cursors: { "trades.SPY": "c" } }), BadFrame);
  assert.deepEqual(hear(channels, { type: "sale" }), []);
  assert.throws(() => new Channels(["toString"], {}), RangeError);
});

test("many channels with long cursors are several requests below 64 KiB", () => {
  const many = Array.from({ length: 200 }, (_, number) => `trades.${number}`);
  const channels = new Channels(many, Object.fromEntries(many.map((name) => [name, "x".repeat(700)])));
  channels.connected();
  const requests = channels.requests(0);
  assert.ok(requests.length > 1 && requests.every((text) => text.length < 65_536));
  assert.deepEqual(requests.flatMap((text) => JSON.parse(text).channels), many);
});

test("a token is renewed before it ends", () => {
  const token = (claims) => `h.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.s`;
  assert.equal(endsAtMs(token({ exp: 3600, sub: "é?>" })), 3_600_000);
  assert.equal(refreshInMs(token({ exp: 3600 }), 0), 3_540_000);
  assert.equal(refreshInMs(token({ exp: 10 }), 0), 8_000);
  for (const other of ["", "a.b.c", "opaque", token({}), token(null)]) assert.equal(refreshInMs(other, 0), undefined);
});

test("what is kept is the snapshot with what came since, of the same moment as its cursor", () => {
  const shown = new Shown({});
  const at = (channel, cursor, event) => shown.take({ type: "update", channel, cursor, event });
  shown.take({ type: "snapshot", channel: "positions", cursor: "p0", events: [{ account: "a", symbol: "S", quantity: "1" }] });
  at("positions", "p1", { account: "a", symbol: "T", quantity: "2" });
  at("positions", "p2", { account: "a", symbol: "S", quantity: "0" });
  at("aggregates", "a1", { account: "a", revision: 7 });
  at("aggregates", "a2", { account: "a", revision: 6 });
  for (let id = 1; id <= 120; id += 1) shown.take(trade(id));
  shown.move("trades", "later");
  assert.deepEqual(shown.saved.positions, { cursor: "p2", events: [{ account: "a", symbol: "T", quantity: "2" }] });
  assert.deepEqual(shown.saved.aggregates, { cursor: "a2", events: [{ account: "a", revision: 7 }] });
  assert.equal(shown.saved.trades.cursor, "later");
  assert.deepEqual(shown.saved.trades.events.map((event) => event.event_id), Array.from({ length: 100 }, (_, n) => `${n + 21}`));
  assert.deepEqual(new Shown(shown.saved).saved, shown.saved);
});

test("a cache in a file is whole, and something else is not taken for a first start", async () => {
  const path = join(await mkdtemp(join(tmpdir(), "cache-")), "stream.json");
  const cache = fileCache(path);
  assert.deepEqual(await cache.load(), {});
  await cache.save({ trades: { cursor: "c", events: [] } });
  assert.deepEqual(await cache.load(), { trades: { cursor: "c", events: [] } });
  assert.equal(await readFile(path, "utf8"), '{"trades":{"cursor":"c","events":[]}}');
  for (const other of ["", "[1]", "7", '{"trades":{"cursor":1}}', '{"trades":null}']) {
    await writeFile(path, other);
    await assert.rejects(async () => cache.load(), { message: /stream\.json/ });
  }
});

test("localStorage keeps the same", (t) => {
  const kept = new Map();
  globalThis.localStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  t.after(() => delete globalThis.localStorage);
  const cache = localStorageCache("sentio");
  assert.deepEqual(cache.load(), {});
  cache.save({ trades: { cursor: "c", events: [] } });
  assert.deepEqual(cache.load(), { trades: { cursor: "c", events: [] } });
});

test("a wrong channel, and no WebSocket, are said before anything connects", () => {
  assert.throws(() => new Stream("ws://x", ["tradez"], { WebSocket: class {} }), /no channel "tradez"; there are trades/);
  assert.throws(() => new Stream("ws://x", [], { WebSocket: class {} }), /one channel or more/);
});

/** A socket that a test holds both ends of. */
function wire() {
  const made = [];
  class Wire {
    readyState = 1;
    sent = [];
    constructor() {
      made.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
    }
    say(frame) {
      this.onmessage({ data: JSON.stringify(frame) });
    }
    subscribe() {
      this.onopen({});
      const { id } = this.sent.find((one) => one.op === "subscribe");
      this.say({ type: "ack", id });
    }
  }
  return { Wire, made };
}

test("of an application that does not take what comes a bounded number waits, and the rest follows when it does", async () => {
  const { Wire, made } = wire();
  const stream = new Stream("ws://x", ["trades"], { WebSocket: Wire });
  const first = stream.next();
  await new Promise(setImmediate);
  made[0].subscribe();
  for (let number = 1; number <= 10_100; number += 1) {
    if (made[0].readyState === 1) made[0].say(update(number, number - 1));
  }
  assert.equal((await first).value.seq, "0:1");
  let last;
  while (last?.seq !== "0:10000") last = (await stream.next()).value;
  assert.equal(made.length, 1);
  const next = stream.next();
  await new Promise(setImmediate);
  made[1].subscribe();
  assert.deepEqual(made[1].sent[0].cursor, { trades: "c10000" });
  made[1].say(update(10_001, 10_000));
  assert.equal((await next).value.type, "resumed");
  await stream.close();
});

test("a token is shown before anything is asked for, and one that is no good ends the stream", async () => {
  const { Wire, made } = wire();
  const stream = new Stream("ws://x", ["trades"], { WebSocket: Wire, token: async () => "mine" });
  const first = stream.next();
  await new Promise(setImmediate);
  made[0].onopen({});
  assert.deepEqual(made[0].sent.map((one) => one.op), ["auth", "subscribe"]);
  assert.equal(made[0].sent[0].token, "mine");
  made[0].say({ type: "error", id: made[0].sent[0].id, code: "unauthorized", message: "it ended" });
  await assert.rejects(first, { name: "Refused", code: "unauthorized" });
  assert.equal((await stream.next()).done, true);
});

test("an item is kept once the next one is asked for, and not when the loop is left", async () => {
  const { Wire, made } = wire();
  let saved = {};
  const cache = { load: () => ({}), save: (one) => void (saved = one) };
  const stream = new Stream("ws://x", ["trades"], { WebSocket: Wire, cache });
  const first = stream.next();
  await new Promise(setImmediate);
  made[0].subscribe();
  for (const number of [1, 2, 3]) made[0].say(update(number, number - 1));
  await first;
  await stream.next();
  for await (const item of stream) {
    assert.equal(item.seq, "0:3");
    break;
  }
  assert.deepEqual([saved.trades.cursor, saved.trades.events.length], ["c2", 2]);
  assert.equal(made[0].readyState, 3);
});
