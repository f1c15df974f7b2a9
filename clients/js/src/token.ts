// When a token ends, and when it is time for the next one. Nothing here trusts what a token says.

/** A JWT, or what fetches one. A rejection is taken for "not at the moment", unless it is a `StreamError`. */
export type Token = string | (() => Promise<string>);

const SHARE = 0.2;
const MOST_MS = 60_000;

/** How long from now a new one is due: a fifth of what it has left before its end, at most a minute. */
export function refreshInMs(token: string, nowMs: number): number | undefined {
  const endMs = endsAtMs(token);
  if (endMs === undefined) return undefined;
  const leftMs = Math.max(0, endMs - nowMs);
  return leftMs - Math.min(MOST_MS, leftMs * SHARE);
}

/** Unix time of its `exp` in milliseconds; undefined if it does not say. */
export function endsAtMs(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/")));
    const end = (claims as { exp?: unknown }).exp;
    return typeof end === "number" ? end * 1000 : undefined;
  } catch {
    return undefined;
  }
}
