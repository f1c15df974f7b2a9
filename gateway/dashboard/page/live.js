// What this page hears of the stream, as any client does: its own copy of the figures, and the feeds.

import { token } from "./api.js";

const client = import("./vendor/client/index.js").then((found) => found.Stream, () => undefined);
const CHANNELS = ["trades", "signals", "positions", "performance"];
const MOST_TRADES = 60;

export class Live {
  trades = [];
  signals = new Map();
  positions = new Map();
  performance = new Map();
  status = { state: "new", detail: "" };

  /** `changed` is called after each change, with the event where it is a new one. */
  async follow(url, changed) {
    const Stream = await client;
    if (!Stream) {
      this.status = { state: "closed", detail: "the client of the stream was not built: 'make setup' with npm does it" };
      changed();
      return;
    }
    const stream = new Stream(url, CHANNELS, { token: token(), onStatus: (status) => ((this.status = status), changed()) });
    try {
      for await (const item of stream) {
        if (item.type === "snapshot") {
          this.#forget(item.kind);
          for (const event of item.events) this.#take(item.kind, event);
        } else if (item.type === "update") {
          this.#take(item.kind, item.event);
        }
        changed(item);
      }
    } catch (failure) {
      this.status = { state: "closed", detail: String(failure.message ?? failure) };
      changed();
    }
  }

  #forget(kind) {
    if (kind === "trades") this.trades = [];
    else this[kind].clear();
  }

  #take(kind, event) {
    if (kind === "trades") {
      this.trades.unshift(event);
      this.trades.length = Math.min(this.trades.length, MOST_TRADES);
    } else if (kind === "signals") {
      this.signals.set(event.symbol, event);
    } else if (kind === "positions") {
      const key = `${event.account} ${event.symbol}`;
      if (Number(event.quantity)) this.positions.set(key, event);
      else this.positions.delete(key);
    } else {
      this.performance.set(event.account, event);
    }
  }
}
