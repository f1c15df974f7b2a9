// What the page asks REST, with the owner's token. The token stays in this tab and is forgotten with it.

const KEY = "sentio.token";

export class Refused extends Error {}

export const token = () => sessionStorage.getItem(KEY) ?? undefined;
export const remember = (value) => sessionStorage.setItem(KEY, value);
export const forget = () => sessionStorage.removeItem(KEY);

/** The first question, asked before the rest of the page is there. What becomes of it is for who awaits it. */
export const first = ask("state");
first.catch(() => undefined);

/** JSON of a path under /owner/. Throws `Refused` for a token that is no owner's, an Error for anything else. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters);
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(`${path}?${query}`, { headers, signal: AbortSignal.timeout(30_000) });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  const why = problem.detail ?? `the server answered ${answer.status}`;
  throw answer.status === 401 || answer.status === 403 ? new Refused(why) : new Error(why);
}
