// What a client has heard of each channel, over all its connections: requests to send, frames to items. No I/O.

import { BadFrame, Refused } from "./errors.js";
import type { Channels as Events } from "./events.js";
import type { Gap, Item, Kind, Snapshot, Update } from "./items.js";

/** Where channels stand though nothing happened on them; no item, but it moves what is kept. */
export interface Position {
  readonly type: "position";
  readonly cursors: Readonly<Record<string, string>>;
}

export interface Wishes {
  /** Where channels without a cursor begin, instead of a snapshot. */
  readonly since?: Date | undefined;
  /** `false`: every message of a channel of which else only the newest of each key is sent. */
  readonly conflate?: boolean | undefined;
  /** Messages do not wait for others to be sent with. */
  readonly lowestLatency?: boolean | undefined;
}

const KINDS: Record<Kind, true> = {
  trades: true,
  signals: true,
  positions: true,
  performance: true,
  bars: true,
  prices: true,
  engine: true,
  aggregates: true,
};
const MOST_REQUEST_BYTES = 32 * 1024; // of 64 KiB that a gateway takes

interface Channel {
  readonly name: string;
  readonly kind: Kind;
  cursor: string | undefined;
  /** Offset of the last update of each partition on this connection. */
  readonly last: Map<string, number>;
  /** The newest request that asked for it on this connection. */
  request: number | undefined;
  /** That one is acknowledged: what comes now is what it asked for. */
  live: boolean;
  /** Asked for with a cursor, and not a word yet. */
  resuming: boolean;
  /** The cursor from which a missing message was asked for. */
  refetched: string | undefined;
  /** When to ask for it (again); undefined: it was asked for. */
  dueMs: number | undefined;
}

type Frame = Readonly<Record<string, unknown>>;

/** The kind of a channel such as "trades" or "trades.TQQQ"; throws a RangeError. */
export function kindOf(channel: string): Kind {
  const base = channel.split(".", 1)[0] ?? "";
  if (Object.hasOwn(KINDS, base)) return base as Kind;
  throw new RangeError(`no channel ${JSON.stringify(channel)}; there are ${Object.keys(KINDS).join(", ")}`);
}

/** The subscriptions of one stream. */
export class Channels {
  readonly #all: Map<string, Channel>;
  readonly #options: Record<string, unknown> = {};
  #id = 0;

  constructor(names: readonly string[], cursors: Readonly<Record<string, string>>, wishes: Wishes = {}) {
    this.#all = new Map(
      names.map((name) => [
        name,
        {
          name,
          kind: kindOf(name),
          cursor: cursors[name],
          last: new Map<string, number>(),
          request: undefined,
          live: false,
          resuming: false,
          refetched: undefined,
          dueMs: undefined,
        },
      ]),
    );
    if (wishes.since) this.#options["from"] = wishes.since.toISOString();
    if (wishes.conflate === false) this.#options["conflate"] = false;
    if (wishes.lowestLatency) this.#options["latency"] = "lowest";
  }

  /** When `requests` has something to say. */
  get dueMs(): number | undefined {
    const due = [...this.#all.values()].flatMap((channel) => channel.dueMs ?? []);
    return due.length ? Math.min(...due) : undefined;
  }

  nextId(): number {
    this.#id += 1;
    return this.#id;
  }

  /** A new connection knows of nothing: what came before is in the cursor. */
  connected(): void {
    for (const channel of this.#all.values()) {
      channel.last.clear();
      channel.request = undefined;
      channel.live = false;
      channel.dueMs = 0;
    }
  }

  /** Frames that ask for what is due; several where one would be too large. */
  requests(nowMs: number): string[] {
    const due = [...this.#all.values()].filter((channel) => channel.dueMs !== undefined && channel.dueMs <= nowMs);
    const made: string[] = [];
    let some: Channel[] = [];
    let size = 0;
    for (const channel of due) {
      some.push(channel);
      size += 12 * channel.name.length + (channel.cursor?.length ?? 0) + 16; // at most: \u0000 for each character
      if (size >= MOST_REQUEST_BYTES) {
        made.push(this.#request(some));
        some = [];
        size = 0;
      }
    }
    if (some.length) made.push(this.#request(some));
    return made;
  }

  #request(channels: readonly Channel[]): string {
    const id = this.nextId();
    const cursor: Record<string, string> = {};
    for (const channel of channels) {
      channel.request = id;
      channel.live = false;
      channel.dueMs = undefined;
      channel.resuming = channel.cursor !== undefined;
      if (channel.cursor !== undefined) cursor[channel.name] = channel.cursor;
    }
    const names = channels.map((channel) => channel.name);
    return JSON.stringify({ id, op: "subscribe", channels: names, cursor, ...this.#options });
  }

  /** What a frame gives to the application; throws a `StreamError`. */
  heard(frame: Frame, nowMs: number): (Item | Position)[] {
    switch (frame["type"]) {
      case "update":
        return this.#update(frame, nowMs);
      case "snapshot":
        return this.#snapshot(frame);
      case "resume_failed":
        return this.#resumeFailed(frame);
      case "heartbeat":
        return this.#heartbeat(frame);
      case "ack":
        for (const channel of this.#all.values()) channel.live ||= channel.request === frame["id"];
        return [];
      case "error":
        this.#error(frame, nowMs);
        return [];
      default:
        return [];
    }
  }

  /** Undefined where the frame is of a subscription that was replaced meanwhile. */
  #live(name: string): Channel | undefined {
    const channel = this.#all.get(name);
    if (!channel) throw new BadFrame(`the gateway speaks of ${name}, to which this client did not subscribe`);
    return channel.live ? channel : undefined;
  }

  #update(frame: Frame, nowMs: number): Item[] {
    const channel = this.#live(text(frame, "channel"));
    if (!channel) return [];
    const items: Item[] = [];
    const seq = text(frame, "seq");
    const [partition, offset] = place(seq);
    const last = channel.last.get(partition);
    if (frame["prev"] !== null && last !== undefined) {
      if (offset <= last) return []; // had it
      // Not "differs from": the gateway leaves out what was published twice, and a client that caught up may have had
      // the second one.
      const prev = text(frame, "prev");
      if (place(prev)[1] > last) {
        const message = `${prev} of ${channel.name} did not come before ${seq}`;
        const gap: Gap = { type: "gap", channel: channel.name, reason: "missing", message };
        if (channel.refetched !== channel.cursor) {
          channel.refetched = channel.cursor;
          channel.live = false;
          channel.dueMs = nowMs;
          return [gap];
        }
        items.push({ ...gap, reason: "lost" });
      }
    }
    const event = record(frame, "data");
    const [cursor, at] = [text(frame, "cursor"), text(frame, "at")];
    channel.last.set(partition, offset);
    channel.cursor = cursor;
    if (channel.resuming) {
      channel.resuming = false;
      items.push({ type: "resumed", channel: channel.name });
    }
    items.push({ type: "update", kind: channel.kind, channel: channel.name, event, seq, cursor, at } as unknown as Update);
    return items;
  }

  #snapshot(frame: Frame): Item[] {
    const channel = this.#live(text(frame, "channel"));
    if (!channel) return [];
    const events = frame["data"];
    if (!Array.isArray(events)) throw new BadFrame("a snapshot without data");
    const cursor = text(frame, "cursor");
    channel.last.clear();
    channel.cursor = cursor;
    channel.resuming = false;
    return [snapshotOf(channel.name, events, cursor, { truncated: frame["truncated"] === true, cached: false })];
  }

  #resumeFailed(frame: Frame): Item[] {
    const channel = this.#live(text(frame, "channel"));
    if (!channel) return [];
    channel.cursor = undefined;
    channel.resuming = false;
    return [{ type: "gap", channel: channel.name, reason: text(frame, "reason"), message: text(frame, "message") }];
  }

  #heartbeat(frame: Frame): (Item | Position)[] {
    const items: (Item | Position)[] = [];
    const moved: Record<string, string> = {};
    for (const [name, cursor] of Object.entries(record(frame, "cursors"))) {
      const channel = this.#live(name);
      if (!channel || typeof cursor !== "string") continue;
      channel.cursor = moved[name] = cursor;
      if (channel.resuming) {
        channel.resuming = false;
        items.push({ type: "resumed", channel: name });
      }
    }
    return [...items, { type: "position", cursors: moved }];
  }

  #error(frame: Frame, nowMs: number): void {
    const [code, name] = [text(frame, "code"), frame["channel"]];
    if (code === "unavailable" || code === "too_many_requests") {
      const retryMs = Number(frame["retry_s"] ?? 5) * 1000;
      for (const channel of this.#all.values()) {
        if (channel.request !== frame["id"] || (name !== undefined && name !== channel.name)) continue;
        channel.live = false;
        channel.dueMs = nowMs + retryMs;
      }
    } else if (code !== "unauthorized") {
      // That one answers a token, which is the stream's affair.
      throw new Refused(code, text(frame, "message"));
    }
  }
}

export function snapshotOf(
  channel: string,
  events: readonly unknown[],
  cursor: string,
  more: { readonly truncated: boolean; readonly cached: boolean },
): Snapshot {
  return { type: "snapshot", kind: kindOf(channel), channel, events: events as Events[Kind][], cursor, ...more } as Snapshot;
}

/** Partition and offset of a seq. */
function place(seq: string): [string, number] {
  const [partition, offset] = seq.split(":");
  const number = Number(offset);
  if (partition === undefined || !Number.isSafeInteger(number)) throw new BadFrame(`${seq} is no place in a log`);
  return [partition, number];
}

function text(frame: Frame, name: string): string {
  const value = frame[name];
  if (typeof value === "string") return value;
  throw new BadFrame(`${name} is missing in ${JSON.stringify(frame).slice(0, 500)}`);
}

function record(frame: Frame, name: string): Frame {
  const value = frame[name];
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Frame;
  throw new BadFrame(`${name} is missing in ${JSON.stringify(frame).slice(0, 500)}`);
}
