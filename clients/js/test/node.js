// follow.js in Node: `node test/node.js SPEC`.

import { WebSocket } from "ws";

import { fileCache } from "../dist/file.js";
import * as client from "../dist/index.js";
import { commands } from "./commands.js";
import { follow } from "./follow.js";

const spec = JSON.parse(process.argv[2]);
const { token, end } = commands(() => void following.close());
const options = { WebSocket, cache: fileCache(spec.cache), ...(spec.signed && { token }) };
const following = follow(client, spec, options, (item) => console.log(JSON.stringify(item)));
await following.done;
end();
