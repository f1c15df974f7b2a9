// What a stream gives to the application.

import type { Channels } from "./events.js";

export type Kind = keyof Channels;

type OfKind<Rest> = { [K in Kind]: { readonly kind: K } & Rest & Event<K> }[Kind];
type Event<K extends Kind> = { readonly event: Channels[K] };

/** One event, as it happened. `kind` tells which: `if (item.kind === "trades") item.event.price`. */
export type Update = OfKind<{
  readonly type: "update";
  readonly channel: string;
  /** Place in the log, "partition:offset": the same on every channel and connection. */
  readonly seq: string;
  /** To go on from, behind this event. */
  readonly cursor: string;
  /** When it was published, RFC 3339. */
  readonly at: string;
}>;

/** How things stand where a channel begins; replaces what was heard of it before. */
export type Snapshot = {
  [K in Kind]: {
    readonly type: "snapshot";
    readonly kind: K;
    readonly channel: string;
    /** Oldest first. */
    readonly events: readonly Channels[K][];
    /** There would be more of it than a snapshot holds. */
    readonly truncated: boolean;
    readonly cursor: string;
    /** From the cache: what was shown last, perhaps long ago. What came since follows once there is a connection. */
    readonly cached: boolean;
  };
}[Kind];

/**
 * Between what was heard of the channel and what follows, something is missing. `reason` is "missing" where a message
 * did not come: it is asked for again, `Resumed` and the message follow. It is "lost" where that did not help. Any
 * other is the gateway's ("expired", "foreign", "too_much", …): a `Snapshot` follows.
 */
export interface Gap {
  readonly type: "gap";
  readonly channel: string;
  readonly reason: string;
  readonly message: string;
}

/** The channel goes on where it stood, after a pause or a restart: nothing is missing, nothing comes twice. */
export interface Resumed {
  readonly type: "resumed";
  readonly channel: string;
}

export type Item = Update | Snapshot | Gap | Resumed;

/** How the connection is. */
export interface Status {
  readonly state: "new" | "connecting" | "open" | "waiting" | "closed";
  /** Why it is not open. */
  readonly detail: string;
  /** How long it waits before it connects again, milliseconds. */
  readonly retryInMs: number;
  /** How often it was open. */
  readonly connections: number;
}
