// What ends a stream for good; everything else it comes back from by itself.

export class StreamError extends Error {
  override name = "StreamError";
}

/** The gateway closed the connection and does not want it back as it is (44xx). */
export class Closed extends StreamError {
  override name = "Closed";
  constructor(
    readonly code: number,
    readonly reason: string,
  ) {
    super(`the gateway closed the connection with ${code}: ${reason}`);
  }
}

/** The gateway did not follow a request. */
export class Refused extends StreamError {
  override name = "Refused";
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(`the gateway refused: ${message} (${code})`);
  }
}

/** A frame that does not follow the protocol. */
export class BadFrame extends StreamError {
  override name = "BadFrame";
}
