// An application that says all it hears, in Node and in a browser; tests/integration/test_js_client.py listens.

/** Follows until it is told to close, or the stream gives up. `options` is what the place it runs in has to add. */
export function follow({ Stream }, spec, options, say) {
  const wishes = { ...(spec.token && { token: spec.token }), ...(spec.since && { since: new Date(spec.since) }) };
  const stream = new Stream(spec.url, spec.channels, { ...options, ...wishes });
  const run = async () => {
    try {
      for await (const item of stream) say(item);
      say({ type: "end" });
    } catch (failure) {
      say({ type: "end", name: failure.name, code: failure.code, message: failure.message });
    }
  };
  return { done: run(), close: () => stream.close() };
}
