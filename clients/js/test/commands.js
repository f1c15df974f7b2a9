// What the test says on stdin: "close", or a token that was asked for.

import { createInterface } from "node:readline";

export function commands(close) {
  const lines = createInterface({ input: process.stdin });
  const waiting = [];
  lines.on("line", (line) => (line === "close" ? close() : waiting.shift()(line)));
  return {
    token: () => {
      console.log('{"type":"token"}');
      return new Promise((resolve) => waiting.push(resolve));
    },
    end: () => {
      lines.close();
      process.stdin.destroy();
    },
  };
}
