// The rows of all objects, and the stream of their changes.

import { toast } from "./dialogs.js";
import { find, setText } from "./elements.js";
import { logIn, messageOf } from "./requests.js";
import { setServerTime } from "./times.js";

export const rows = { hosts: new Map(), images: new Map(), configs: new Map() };
let version = 0;
let stream = null;
let retry = 0;
const listeners = [];

/** Calls a function after rows have changed: with the changed rows and deleted ids, or without if all are new. */
export const onRows = (listener) => listeners.push(listener);

function setLive(state, text) {
  const shown = find("#live");
  if (!shown || shown.dataset.state === state) return;
  shown.dataset.state = state;
  setText(shown, text);
}

/** Loads all rows, and follows their changes. */
export async function load() {
  let reply;
  try {
    reply = await fetch(`/ui/rows${rowsQuery}`);
  } catch {
    return loadLater();
  }
  if (reply.status === 401) return logIn();
  if (!reply.ok) return loadLater(await messageOf(reply));
  const all = await reply.json();
  retry = 0;
  version = all.version;
  setServerTime(all.time);
  for (const kind of Object.keys(rows)) {
    rows[kind].clear();
    for (const row of all[kind] ?? []) rows[kind].set(row.id, row);
  }
  document.body.dataset.loaded = "true";
  listeners.forEach((listener) => listener(null));
  connect();
}

/** Loads all rows again later. `reason` is what the server said, if it did. */
function loadLater(reason) {
  setLive("lost", reason ? "refused" : "no connection");
  if (reason && !retry) toast(reason, { isError: true });
  retry = Math.min(retry + 1, 5);
  setTimeout(
    () => (document.hidden ? null : load().catch(() => loadLater())),
    500 * 2 ** retry * (0.75 + Math.random() / 2),
  );
}

let [rowsQuery, streamQuery, streamListeners] = ["", "", {}];

/** Sets what a page asks for: the query of the rows, that of the stream, and listeners of the stream's other events. */
export function setFeed({ rows: ofRows = "", stream: ofStream = "", listeners: named = {} }) {
  [rowsQuery, streamQuery, streamListeners] = [ofRows, ofStream, named];
}

function connect() {
  stream?.close();
  if (document.hidden) return;
  stream = new EventSource(`/ui/events?since=${version}${streamQuery}`);
  stream.onopen = () => setLive("live", "live");
  stream.onmessage = (event) => {
    version = Number(event.lastEventId);
    applyChanges(JSON.parse(event.data));
  };
  stream.addEventListener("hello", (event) => {
    const { assets, time } = JSON.parse(event.data);
    setServerTime(time);
    if (assets !== document.body.dataset.assets) announceUpdate();
  });
  for (const [name, listener] of Object.entries(streamListeners)) {
    stream.addEventListener(name, (event) => listener(JSON.parse(event.data)));
  }
  stream.onerror = (event) => {
    setLive("lost", "reconnecting");
    // The browser reconnects by itself unless the server refused.
    if (event.target.readyState === EventSource.CLOSED && event.target === stream) explainRefusal(event.target.url);
  };
}

// A page that nobody sees has no stream: a browser opens six connections to a server at most.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.close();
    stream = null;
    setLive("paused", "paused");
  } else if (!stream) {
    document.body.dataset.loaded ? connect() : load();
  }
});

/** Finds out why a stream was refused, which the browser does not tell: by the same request. */
async function explainRefusal(url) {
  const abort = new AbortController();
  try {
    const reply = await fetch(url, { signal: abort.signal });
    if (reply.status === 401) return logIn();
    // 410: the history no longer reaches back to our version.
    if (reply.ok || reply.status === 410) return load();
    loadLater(await messageOf(reply));
  } catch {
    loadLater();
  } finally {
    abort.abort();
  }
}

function applyChanges(change) {
  for (const kind of Object.keys(rows)) {
    for (const row of change[kind] ?? []) rows[kind].set(row.id, row);
    const gone = change[`gone${kind[0].toUpperCase()}${kind.slice(1)}`] ?? [];
    for (const id of gone) rows[kind].delete(id);
  }
  listeners.forEach((listener) => listener(change));
}

let isUpdateAnnounced = false;

function announceUpdate() {
  if (isUpdateAnnounced) return;
  isUpdateAnnounced = true;
  toast("The server has a new version of this page.", {
    stays: true,
    actions: [["Load it", () => location.reload()]],
  });
}

export const collator = new Intl.Collator("en", { numeric: true });
export const sortedIds = (map) => [...map.keys()].sort(collator.compare);
