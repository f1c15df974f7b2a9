// What an application last showed, and where it stood then: kept, so that it starts with that, offline too.

import type { Item } from "./items.js";
import { kindOf } from "./channels.js";

/** Of one channel; both of the same moment. */
export interface Kept {
  readonly cursor: string;
  readonly events: readonly unknown[];
}

/** By channel. */
export type Saved = Readonly<Record<string, Kept>>;

/** A place for it. `save` is called about once a second while anything moves, and never again before it is done. */
export interface Cache {
  /** Empty at the first start. */
  load(): Saved | Promise<Saved>;
  /** Keep this instead of the former. */
  save(saved: Saved): void | Promise<void>;
}

/** In the browser's localStorage, under one key; what else is there is an Error, as to begin anew would hide a loss. */
export function localStorageCache(key: string): Cache {
  return {
    load: () => parseSaved(localStorage.getItem(key) ?? "{}"),
    save: (saved) => localStorage.setItem(key, JSON.stringify(saved)),
  };
}

/** Throws an Error for a text that is not what a cache wrote. */
export function parseSaved(saved: string): Saved {
  const found: unknown = JSON.parse(saved);
  const entries = typeof found === "object" && found !== null ? Object.values(found) : [undefined];
  for (const kept of entries as (Partial<Kept> | null | undefined)[]) {
    if (typeof kept?.cursor !== "string" || !Array.isArray(kept.events)) {
      throw new Error("the cache holds something else; clear it to begin with a snapshot");
    }
  }
  return found as Saved;
}

/** Fields that tell apart of what a channel's snapshot holds the newest of each; of the others it holds the newest. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  signals: ["symbol"],
  positions: ["account", "symbol"],
  performance: ["account"],
  engine: ["engine"],
  aggregates: ["account", "strategy", "symbol", "kind", "start_at"],
};
const NEWEST = 100;
const MOST = 2_000;

type Row = Readonly<Record<string, unknown>>;

/** What a channel's snapshot would be, kept up to date by what came since. */
export class Shown {
  readonly #channels = new Map<string, { cursor: string; rows: Map<unknown, Row> }>();

  constructor(saved: Saved) {
    for (const [channel, kept] of Object.entries(saved)) this.#begin(channel, kept.cursor, kept.events as Row[]);
  }

  take(item: Item): void {
    if (item.type === "snapshot") {
      this.#begin(item.channel, item.cursor, item.events as readonly unknown[] as Row[]);
    } else if (item.type === "update") {
      if (!this.#channels.has(item.channel)) this.#begin(item.channel, item.cursor, []);
      this.#add(item.channel, item.event as unknown as Row);
      this.move(item.channel, item.cursor);
    }
  }

  move(channel: string, cursor: string): void {
    const kept = this.#channels.get(channel);
    if (kept) kept.cursor = cursor;
  }

  get saved(): Saved {
    const entries = [...this.#channels].map(([channel, kept]) => [
      channel,
      { cursor: kept.cursor, events: [...kept.rows.values()] },
    ]);
    return Object.fromEntries(entries) as Saved;
  }

  #begin(channel: string, cursor: string, rows: readonly Row[]): void {
    this.#channels.set(channel, { cursor, rows: new Map() });
    for (const row of rows) this.#add(channel, row);
  }

  #add(channel: string, row: Row): void {
    const rows = this.#channels.get(channel)?.rows;
    if (!rows) return;
    const fields = KEYS[kindOf(channel)];
    const key = fields ? JSON.stringify(fields.map((field) => row[field])) : Symbol();
    const former = rows.get(key);
    // The same window may come again as it was.
    if (former && Number(former["revision"] ?? 0) > Number(row["revision"] ?? 0)) return;
    rows.delete(key); // the newest is the last
    if (kindOf(channel) !== "positions" || row["quantity"] !== "0") rows.set(key, row);
    const most = fields ? MOST : NEWEST;
    for (const oldest of rows.keys()) {
      if (rows.size <= most) break;
      rows.delete(oldest);
    }
  }
}
