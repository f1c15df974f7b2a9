// The stream as an application sees it: one asynchronous iterator over all its connections.

import { Backoff, verdict } from "./backoff.js";
import { type Cache, type Saved, Shown } from "./cache.js";
import { Channels, type Position, type Wishes, kindOf, snapshotOf } from "./channels.js";
import { BadFrame, Closed, Refused, StreamError } from "./errors.js";
import type { Item, Status } from "./items.js";
import { type Token, refreshInMs } from "./token.js";

/** What is needed of a WebSocket: the browser's, Node's, or that of the package `ws`. */
export interface Socket {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}

export interface Options extends Wishes {
  readonly token?: Token;
  /** Keeps cursors and what was last shown. */
  readonly cache?: Cache;
  /** Where there is no global one (Node 20): `import { WebSocket } from "ws"`. */
  readonly WebSocket?: new (url: string) => Socket;
  readonly onStatus?: (status: Status) => void;
  readonly backoff?: Backoff;
}

/** What the gateway is told that we are; a browser's page has no other way than the address. */
const PRODUCT = "sentio-js/0.1.0";
const OPEN_MS = 10_000;
const HEARTBEATS_MISSED = 2.5;
const SAVE_EVERY_MS = 1_000;
const REFRESH_AGAIN_MS = 5_000;
const MOST_WAITING = 10_000;
const OPEN = 1;

/**
 * Events of channels, in order, over as many connections as it takes.
 *
 * ```
 * for await (const item of stream) { … }
 * ```
 *
 * It connects with the first `next()`. An item is finished when the next one is asked for: what was not, comes again
 * after a restart of the program. Of a slow application at most 10,000 items wait; then the connection is closed, and
 * made again from there once they are taken.
 */
export class Stream implements AsyncIterableIterator<Item> {
  readonly #url: string;
  readonly #names: readonly string[];
  readonly #options: Options;
  readonly #backoff: Backoff;
  readonly #WebSocket: new (url: string) => Socket;
  #channels: Channels;
  #shown = new Shown({});
  #begun: Promise<void> | undefined;
  #socket: Socket | undefined;
  #waiting: (Item | Position)[] = [];
  #given: Item | undefined;
  #wake: (() => void) | undefined;
  #failure: unknown;
  #ended = false;
  #status: Status = { state: "new", detail: "", retryInMs: 0, connections: 0 };
  #openedMs = 0;
  #silentMs = OPEN_MS;
  #authorizing: number | undefined;
  #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #saving: Promise<void> | undefined;
  #cacheFailure: unknown;
  readonly #online = (): void => {
    if (this.#status.state === "waiting") void this.#connect();
  };

  /** Throws a RangeError for a channel that there is not, a TypeError where there is no WebSocket. */
  constructor(url: string, channels: readonly string[], options: Options = {}) {
    const found = options.WebSocket ?? (globalThis as { WebSocket?: new (url: string) => Socket }).WebSocket;
    if (!found) throw new TypeError("no WebSocket here; give one: new Stream(url, channels, { WebSocket })");
    if (!channels.length) throw new RangeError("name one channel or more");
    channels.forEach(kindOf);
    this.#url = url;
    this.#names = channels;
    this.#options = options;
    this.#WebSocket = found;
    this.#backoff = options.backoff ?? new Backoff();
    this.#channels = new Channels(channels, {}, options);
  }

  get status(): Status {
    return this.#status;
  }

  /** Why the cache could not be written the last time, such as a full localStorage; undefined: it could. */
  get cacheFailure(): unknown {
    return this.#cacheFailure;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next item, however long it takes; rejects with a `StreamError` for what coming back would not mend. */
  async next(): Promise<IteratorResult<Item, undefined>> {
    if (!this.#ended) await (this.#begun ??= this.#begin());
    this.#finish();
    for (;;) {
      const item = this.#waiting.shift();
      if (item?.type === "position") {
        for (const [channel, cursor] of Object.entries(item.cursors)) this.#shown.move(channel, cursor);
        this.#saveSoon();
      } else if (item) {
        this.#given = item;
        return { done: false, value: item };
      } else if (this.#failure !== undefined) {
        const failure = this.#failure;
        this.#failure = undefined;
        await this.close();
        throw failure;
      } else if (this.#ended) {
        return { done: true, value: undefined };
      } else {
        if (!this.#socket && this.#status.state === "new") void this.#connect(); // all was taken that waited too long
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }

  /** What `break` calls. The item of that turn is not taken for finished: a throw looks the same from here. */
  async return(): Promise<IteratorResult<Item, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** Ends the connection and the iterator; resolves once the cache is written. */
  async close(): Promise<void> {
    if (!this.#ended) {
      this.#ended = true;
      this.#waiting = [];
      this.#drop(1000);
      globalThis.removeEventListener?.("online", this.#online);
      if (this.#status.state !== "closed") this.#say({ state: "closed" });
      this.#wake?.();
      await this.#begun?.catch(() => undefined);
      const unsaved = this.#timers.has("save");
      for (const timer of this.#timers.values()) clearTimeout(timer);
      this.#timers.clear();
      await this.#saving;
      if (unsaved) await this.#save();
    }
    await this.#saving;
  }

  async #begin(): Promise<void> {
    const cache = this.#options.cache;
    if (cache) {
      const saved = await cache.load();
      const ours: Saved = Object.fromEntries(Object.entries(saved).filter(([name]) => this.#names.includes(name)));
      this.#shown = new Shown(ours);
      const cursors = Object.entries(ours).map(([name, kept]) => [name, kept.cursor]);
      this.#channels = new Channels(this.#names, Object.fromEntries(cursors), this.#options);
      for (const [name, kept] of Object.entries(ours)) {
        this.#waiting.push(snapshotOf(name, kept.events, kept.cursor, { truncated: false, cached: true }));
      }
    }
    globalThis.addEventListener?.("online", this.#online);
    void this.#connect();
  }

  async #connect(): Promise<void> {
    this.#cancel("connect");
    if (this.#ended || this.#socket || this.#status.state === "connecting") return;
    this.#say({ state: "connecting", detail: this.#status.detail });
    let token: string | undefined;
    try {
      token = await this.#fetchToken();
    } catch (failure) {
      if (failure instanceof StreamError) this.#fail(failure);
      else this.#comeBack(`no token: ${String(failure)}`);
      return;
    }
    if (this.#ended) return;
    let socket: Socket;
    try {
      socket = new this.#WebSocket(`${this.#url}${this.#url.includes("?") ? "&" : "?"}client=${PRODUCT}`);
    } catch (failure) {
      this.#fail(failure); // an address that is none
      return;
    }
    this.#socket = socket;
    this.#silentMs = OPEN_MS;
    this.#awaitFrame();
    // A socket that was given up may still speak.
    const own = (act: () => void) => () => {
      if (this.#socket === socket) act();
    };
    socket.onopen = own(() => this.#opened(token));
    socket.onmessage = (event: { readonly data: unknown }) => own(() => this.#heard(event.data))();
    socket.onclose = (event: { readonly code: number; readonly reason: string }) =>
      own(() => this.#lost(event.code, event.reason))();
    socket.onerror = () => undefined; // the end of the connection follows, and says more
  }

  #opened(token: string | undefined): void {
    this.#openedMs = Date.now();
    this.#channels.connected();
    this.#say({ state: "open", connections: this.#status.connections + 1 });
    this.#authorizing = undefined;
    if (token !== undefined) {
      // A browser cannot set headers, and an address gets into logs.
      this.#authorizing = this.#authorize(token);
    }
    this.#ask();
  }

  #heard(data: unknown): void {
    this.#awaitFrame();
    try {
      const frame: unknown = typeof data === "string" ? JSON.parse(data) : undefined;
      if (typeof frame !== "object" || frame === null) throw new BadFrame("a frame that is no JSON object");
      this.#take(frame as Record<string, unknown>);
    } catch (failure) {
      this.#fail(failure instanceof SyntaxError ? new BadFrame(`not JSON: ${String(data).slice(0, 200)}`) : failure);
    }
  }

  #take(frame: Record<string, unknown>): void {
    if (frame["type"] === "greeting" && typeof frame["heartbeat_s"] === "number") {
      this.#silentMs = HEARTBEATS_MISSED * frame["heartbeat_s"] * 1000;
      this.#awaitFrame();
    } else if (frame["type"] === "draining") {
      this.#say({ ...this.#status, detail: "the gateway is about to restart" });
    } else if (frame["code"] === "unauthorized" && frame["id"] === this.#authorizing) {
      // The first of this connection; of a later one: the former holds until it ends, and then 4401 is said.
      throw new Refused("unauthorized", String(frame["message"]));
    }
    this.#waiting.push(...this.#channels.heard(frame, Date.now()));
    if (this.#waiting.length) this.#wake?.();
    if (this.#waiting.length >= MOST_WAITING) {
      this.#drop(1000);
      this.#say({ state: "new", detail: "the application is behind" });
    } else {
      this.#ask();
    }
  }

  /** Ask for channels that are due, now and when the next is. */
  #ask(): void {
    const due = this.#channels.dueMs;
    if (due === undefined || !this.#socket) return;
    const nowMs = Date.now();
    for (const request of this.#channels.requests(nowMs)) this.#send(request);
    const next = this.#channels.dueMs;
    if (next !== undefined) this.#later("ask", next - nowMs, () => this.#ask());
  }

  #send(text: string): void {
    if (this.#socket?.readyState === OPEN) this.#socket.send(text);
  }

  #lost(code: number, reason: string): void {
    const fresh = typeof this.#options.token === "function";
    const comes = verdict(code, fresh);
    if (comes === "never") this.#fail(new Closed(code, reason));
    else this.#comeBack(`closed with ${code} ${reason}`.trim(), comes !== "later");
  }

  #comeBack(why: string, soon = false): void {
    if (this.#ended) return;
    if (this.#status.state === "open") this.#backoff.lived(Date.now() - this.#openedMs);
    this.#drop(1000);
    const retryInMs = this.#backoff.pauseMs(soon);
    this.#say({ state: "waiting", detail: why, retryInMs });
    this.#later("connect", retryInMs, () => void this.#connect());
  }

  #fail(failure: unknown): void {
    this.#failure ??= failure;
    this.#drop(1000);
    this.#say({ state: "closed", detail: String(failure) });
    this.#wake?.();
  }

  #drop(code: number): void {
    const socket = this.#socket;
    this.#socket = undefined; // from here on it is not listened to
    for (const name of ["silence", "ask", "refresh", "connect"]) this.#cancel(name);
    socket?.close(code);
  }

  /** The connection is dead when nothing is heard for too long. */
  #awaitFrame(): void {
    this.#later("silence", this.#silentMs, () => this.#comeBack(`nothing heard for ${this.#silentMs / 1000} s`));
  }

  async #fetchToken(): Promise<string | undefined> {
    const token = this.#options.token;
    return typeof token === "function" ? await token() : token;
  }

  #authorize(token: string): number {
    const id = this.#channels.nextId();
    this.#send(JSON.stringify({ id, op: "auth", token }));
    const inMs = refreshInMs(token, Date.now());
    if (inMs !== undefined && typeof this.#options.token === "function") {
      this.#later("refresh", Math.max(inMs, 1000), () => void this.#refresh());
    }
    return id;
  }

  /** A new token for this connection. Where there is none to be had, the former one holds until its end. */
  async #refresh(): Promise<void> {
    const socket = this.#socket;
    try {
      const token = await this.#fetchToken();
      if (token !== undefined && socket && socket === this.#socket) this.#authorize(token);
    } catch {
      if (socket && socket === this.#socket) this.#later("refresh", REFRESH_AGAIN_MS, () => void this.#refresh());
    }
  }

  /** The item that was given out is the application's past. */
  #finish(): void {
    if (!this.#given) return;
    this.#shown.take(this.#given);
    this.#given = undefined;
    this.#saveSoon();
  }

  #saveSoon(): void {
    if (this.#options.cache && !this.#ended && !this.#timers.has("save")) {
      this.#later("save", SAVE_EVERY_MS, () => void this.#save());
    }
  }

  async #save(): Promise<void> {
    await this.#saving;
    this.#saving = (async () => {
      try {
        await this.#options.cache?.save(this.#shown.saved);
        this.#cacheFailure = undefined;
      } catch (failure) {
        this.#cacheFailure = failure; // the former state is kept, which is whole in itself
      }
    })();
    await this.#saving;
  }

  #later(name: string, ms: number, act: () => void): void {
    this.#cancel(name);
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      act();
    }, Math.min(Math.max(0, ms), 2 ** 31 - 1));
    this.#timers.set(name, timer);
  }

  #cancel(name: string): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #say(status: Partial<Status> & Pick<Status, "state">): void {
    this.#status = { detail: "", retryInMs: 0, connections: this.#status.connections, ...status };
    this.#options.onStatus?.(this.#status);
  }
}
