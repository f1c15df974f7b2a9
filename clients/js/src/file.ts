// A cache in a file, for Node.

import { open, readFile, rename } from "node:fs/promises";

import { type Cache, parseSaved } from "./cache.js";

/** Replaced as a whole: after a crash it holds the former state or the new one. */
export function fileCache(path: string): Cache {
  return {
    load: async () => {
      try {
        return parseSaved(await readFile(path, "utf8"));
      } catch (failure) {
        if ((failure as NodeJS.ErrnoException).code === "ENOENT") return {};
        throw new Error(`${path}: ${(failure as Error).message}`, { cause: failure });
      }
    },
    save: async (saved) => {
      const beside = await open(`${path}.new`, "w");
      try {
        await beside.writeFile(JSON.stringify(saved));
        await beside.sync();
      } finally {
        await beside.close();
      }
      await rename(`${path}.new`, path);
    },
  };
}
