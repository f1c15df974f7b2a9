// Client of Sentio Stream: typed events from the WebSocket gateway, without a gap; browser and Node.

export { Backoff } from "./backoff.js";
export { type Cache, type Kept, type Saved, localStorageCache } from "./cache.js";
export type { Wishes } from "./channels.js";
export { BadFrame, Closed, Refused, StreamError } from "./errors.js";
export type * from "./events.js";
export type { Gap, Item, Kind, Resumed, Snapshot, Status, Update } from "./items.js";
export { type Options, type Socket, Stream } from "./stream.js";
export type { Token } from "./token.js";
