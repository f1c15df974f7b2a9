// follow.js in Chromium: `node test/browser.js SPEC`. What the page keeps is in the folder `spec.cache`, a browser's profile.

import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

import { commands } from "./commands.js";

const spec = JSON.parse(process.argv[2]);
const PAGE = "http://localhost/"; // nothing listens there: every file is answered here

const browser = await chromium.launchPersistentContext(spec.cache, {
  executablePath: spec.chromium,
  args: [
    "--no-sandbox",
    "--disable-background-networking",
    // The page comes from no address, so that a gateway on this machine would be a foreign network to it.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
  ],
});
const page = browser.pages()[0] ?? (await browser.newPage());
await page.route(`${PAGE}**`, async (route) => {
  const name = new URL(route.request().url()).pathname;
  if (name === "/") return route.fulfill({ contentType: "text/html", body: "<!doctype html><title>test</title>" });
  const file = new URL(name === "/follow.js" ? "follow.js" : `../dist${name}`, import.meta.url);
  return route.fulfill({ contentType: "text/javascript", body: await readFile(file, "utf8") });
});
const { token, end } = commands(() => void page.evaluate(() => globalThis.following.close()));
await page.exposeFunction("say", (item) => console.log(JSON.stringify(item)));
await page.exposeFunction("token", token);
await page.goto(PAGE);
await page.evaluate(async (spec) => {
  const [client, { follow }] = await Promise.all([import("/index.js"), import("/follow.js")]);
  const options = { cache: client.localStorageCache("test"), ...(spec.signed && { token: globalThis.token }) };
  globalThis.following = follow(client, spec, options, (item) => void globalThis.say(item));
  await globalThis.following.done;
}, spec);
await browser.close();
end();
