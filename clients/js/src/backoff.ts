// How long to wait before connecting again.

export const SHORTEST_MS = 500;
export const LONGEST_MS = 30_000;
export const SOON_MS = 250;
/** A connection that lived this long was a good one. */
export const GOOD_MS = 10_000;

/** Pauses that grow and vary: anything up to a bound that doubles, so that clients come back spread out. */
export class Backoff {
  #failures = 0;
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** A connection ended after so long. */
  lived(ms: number): void {
    if (ms >= GOOD_MS) this.#failures = 0;
  }

  /** The next pause; `soon` where the gateway asked to come back, unless it does so again and again. */
  pauseMs(soon = false): number {
    this.#failures += 1;
    const bound = Math.min(LONGEST_MS, SHORTEST_MS * 2 ** Math.min(this.#failures - 1, 16));
    return this.#random() * (soon && this.#failures === 1 ? SOON_MS : bound);
  }
}

export type Verdict = "never" | "soon" | "later" | "new token";

/** What a close code asks of a client: 44xx not to come back as it is, 1012 and 45xx to do. */
export function verdict(code: number, hasFreshTokens: boolean): Verdict {
  if (code === 4401 && hasFreshTokens) return "new token";
  if (code >= 4400 && code < 4500) return "never";
  return code === 1012 ? "soon" : "later";
}
