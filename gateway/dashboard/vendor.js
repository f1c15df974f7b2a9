// Copies what the page takes from others into page/vendor: the charts, and the client of the stream as built in clients/js.

import { cp, mkdir, rm, readdir } from "node:fs/promises";

const into = new URL("page/vendor/", import.meta.url);
const uplot = new URL("node_modules/uplot/", import.meta.url);
const client = new URL("../../clients/js/dist/", import.meta.url);

await rm(into, { recursive: true, force: true });
await mkdir(new URL("client/", into), { recursive: true });
for (const [from, to] of [["dist/uPlot.esm.js", "uPlot.js"], ["dist/uPlot.min.css", "uPlot.css"], ["LICENSE", "uPlot.LICENSE"]]) {
  await cp(new URL(from, uplot), new URL(to, into));
}
// What is for Node only stays away.
for (const name of await readdir(client)) {
  if (name.endsWith(".js") && name !== "file.js") await cp(new URL(name, client), new URL(`client/${name}`, into));
}
