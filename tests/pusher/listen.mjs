// Pusher's own client for JavaScript, unchanged: writes what it hears to standard output, a JSON object a line.
import { createHmac } from "node:crypto";
import Pusher from "pusher-js";

const { port, key, secret, channels, trigger } = JSON.parse(process.argv[2]);
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const pusher = new Pusher(key, {
  cluster: "",
  wsHost: "127.0.0.1",
  wsPort: port,
  forceTLS: false,
  enabledTransports: ["ws"],
  channelAuthorization: {
    customHandler: ({ socketId, channelName }, done) => {
      const signature = createHmac("sha256", secret).update(`${socketId}:${channelName}`).digest("hex");
      done(null, { auth: `${key}:${signature}`, channel_data: channelName.startsWith("presence-") ? "{}" : undefined });
    },
  },
});
pusher.connection.bind("state_change", ({ current }) => say({ state: current }));
pusher.connection.bind("error", ({ error, data }) => say({ error: error?.data ?? data }));
for (const name of channels) {
  const channel = pusher.subscribe(name);
  channel.bind_global((event, data) => say({ event, channel: name, data }));
  if (trigger) channel.bind("pusher:subscription_succeeded", () => channel.trigger(trigger, { from: "pusher-js" }));
}
