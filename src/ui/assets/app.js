// The web page of bootlatch: one module without a build step and without dependencies.
//
// `/ui/rows` gives the rows of all objects at a version, `/ui/events` the changes after it. A change sets only the cells
// that it concerns, so that focus, selection, open drop-downs and half-typed text stay. Text is set as text, never as
// markup: the page's policy forbids the rest.

// ---- Elements ------------------------------------------------------------------------------------------------------

const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Makes an element. Properties starting with `on` are listeners, `data` is a data set, others are attributes. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

/** Sets the text of an element, if it is another one. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function setAttribute(target, name, value) {
  if (value == null || value === false) {
    if (target.hasAttribute(name)) target.removeAttribute(name);
  } else if (target.getAttribute(name) !== String(value)) target.setAttribute(name, value);
}

const page = document.body.dataset.page;
const isAdmin = document.body.dataset.role === "admin";

/** Shows a list of items as children of an element: makes new ones, updates and keeps the others, removes the rest. */
function keyed(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = before.get(key);
    before.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    update?.(child, item);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  for (const child of before.values()) child.remove();
}

// ---- Times ---------------------------------------------------------------------------------------------------------

/** Difference of the server's clock to this one, in milliseconds. */
let clockOffset = 0;
const serverNow = () => (Date.now() + clockOffset) / 1000;

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 100 * 60) return `${Math.round(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} d`;
}

const ago = (seconds) => `${duration(serverNow() - seconds)} ago`;

function exactTime(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

/** Shows a time, in seconds, as "8 s ago", with the exact one on hover. */
function setTime(target, seconds) {
  const key = seconds == null ? "" : String(seconds);
  if (target.dataset.at === key) return;
  target.dataset.at = key;
  setText(target, seconds == null ? "" : ago(seconds));
  setAttribute(target, "title", seconds == null ? null : exactTime(seconds));
  setAttribute(target, "datetime", seconds == null ? null : new Date(seconds * 1000).toISOString());
}

function timeElement(seconds) {
  const made = element("time");
  setTime(made, seconds);
  return made;
}

setInterval(() => {
  if (document.hidden) return;
  for (const shown of findAll("time[data-at]")) {
    if (shown.dataset.at) setText(shown, ago(Number(shown.dataset.at)));
  }
  for (const shown of findAll("[data-due]")) showCountdown(shown);
}, 1000);

function showCountdown(target) {
  const left = Number(target.dataset.due) - serverNow();
  setText(target, left >= 0 ? `due in ${duration(left)}` : `overdue by ${duration(-left)}`);
  target.classList.toggle("late", left < 0);
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

// ---- Requests ------------------------------------------------------------------------------------------------------

/** A request that the server refused: its message, and the field that it names. */
class Refusal extends Error {
  constructor(message, field, code) {
    super(message);
    this.field = field;
    this.code = code;
  }
}

function logIn() {
  location.assign(`/ui/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** Sends a request with a JSON body, and returns the JSON of the reply. */
async function request(method, path, body, type = "application/json") {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = type;
  }
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Refusal("The server does not answer.", "", 0);
  }
  if (reply.status === 401) logIn();
  const text = await reply.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // Not JSON: the text is the message.
  }
  if (reply.ok) return value;
  const cause = value?.details?.causes?.[0];
  const message = value?.message ?? value?.error?.message ?? (text.trim() || `${reply.status} ${reply.statusText}`);
  throw new Refusal(cause?.message ? `${cause.field ? `${cause.field}: ` : ""}${cause.message}` : message, cause?.field ?? "", reply.status);
}

const split = (id) => {
  const [namespace, name] = id.split("/");
  return { namespace, name };
};
const hostPath = (id) => {
  const { namespace, name } = split(id);
  return `/api/v1/namespaces/${namespace}/baremetalhosts/${name}`;
};
const hostPage = (id) => `/ui/hosts/${id}`;
const patch = (path, change) => request("PATCH", path, change, "application/merge-patch+json");

// ---- Rows and their changes ----------------------------------------------------------------------------------------

const rows = { hosts: new Map(), images: new Map(), configs: new Map() };
let version = 0;
let stream = null;
let retry = 0;
const listeners = [];

/** Calls a function after rows have changed: with the changed rows and deleted ids, or without if all are new. */
const onRows = (listener) => listeners.push(listener);

function setLive(state, text) {
  const shown = find("#live");
  if (!shown || shown.dataset.state === state) return;
  shown.dataset.state = state;
  setText(shown, text);
}

async function load() {
  let reply;
  try {
    reply = await fetch(`/ui/rows${rowsQuery}`);
  } catch {
    return loadLater();
  }
  if (reply.status === 401) return logIn();
  if (!reply.ok) return loadLater();
  const all = await reply.json();
  retry = 0;
  version = all.version;
  clockOffset = all.time - Date.now();
  for (const kind of Object.keys(rows)) {
    rows[kind].clear();
    for (const row of all[kind] ?? []) rows[kind].set(row.id, row);
  }
  document.body.dataset.loaded = "true";
  listeners.forEach((listener) => listener(null));
  connect();
}

function loadLater() {
  setLive("lost", "no connection");
  retry = Math.min(retry + 1, 5);
  setTimeout(() => (document.hidden ? null : load()), 500 * 2 ** retry * (0.75 + Math.random() / 2));
}

/** What a page asks for besides all rows: [query of the rows, query of the stream, listeners of its events by name]. */
let [rowsQuery, streamQuery, streamListeners] = ["", "", {}];

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
    clockOffset = time - Date.now();
    if (assets !== document.body.dataset.assets) announceUpdate();
  });
  for (const [name, listener] of Object.entries(streamListeners)) {
    stream.addEventListener(name, (event) => listener(JSON.parse(event.data)));
  }
  stream.onerror = (event) => {
    setLive("lost", "reconnecting");
    // The browser reconnects by itself unless the server refused: the history no longer reaches back to our version.
    if (event.target.readyState === EventSource.CLOSED && event.target === stream) load().catch(loadLater);
  };
}

// A page that nobody sees has no stream: a browser opens six connections to a server at most.
document.addEventListener("visibilitychange", () => {
  if (!pages[page]) return;
  if (document.hidden) {
    stream?.close();
    stream = null;
    setLive("paused", "paused");
  } else if (!stream) {
    document.body.dataset.loaded ? connect() : load();
  }
});

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

// ---- Messages, menus, dialogs --------------------------------------------------------------------------------------

function toast(text, { isError = false, stays = false, actions = [] } = {}) {
  const close = () => made.remove();
  const buttons = actions.map(([title, act]) => element("button", { type: "button", onclick: () => (close(), act()) }, title));
  const made = element(
    "div",
    { class: isError ? "toast error" : "toast" },
    element("span", {}, text),
    ...buttons,
    element("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: close }, "×"),
  );
  find("#toasts").append(made);
  if (!stays) setTimeout(close, isError ? 12000 : 5000);
}

/** Opens the menu below a button. Items: [title, action] or [title, action, "danger"]. */
function openMenu(button, items) {
  const menu = find("#menu");
  const choose = (act) => () => {
    menu.hidePopover();
    act();
  };
  const made = items.map(([title, act, kind]) =>
    element("button", { type: "button", role: "menuitem", class: kind, onclick: choose(act) }, title),
  );
  menu.replaceChildren(...made);
  menu.showPopover();
  const [box, own] = [button.getBoundingClientRect(), menu.getBoundingClientRect()];
  const below = box.bottom + own.height + 8 < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(box.right - own.width, innerWidth - own.width - 8))}px`;
  menu.style.top = `${below ? box.bottom + 4 : Math.max(8, box.top - own.height - 4)}px`;
  setAttribute(button, "aria-expanded", "true");
  menu.addEventListener(
    "toggle",
    (event) => {
      if (event.newState !== "closed") return;
      setAttribute(button, "aria-expanded", "false");
      if (!document.activeElement || document.activeElement === document.body || menu.contains(document.activeElement)) button.focus();
    },
    { once: false, signal: menuSignal() },
  );
  made[0]?.focus();
}

let menuAbort = new AbortController();
function menuSignal() {
  menuAbort.abort();
  menuAbort = new AbortController();
  return menuAbort.signal;
}

find("#menu")?.addEventListener("keydown", (event) => {
  const items = findAll("[role=menuitem]", event.currentTarget);
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  items[(at + step + items.length) % items.length]?.focus();
});

/** Opens a dialog with a form. `submit` gets the form's values; a refusal stays in the dialog. */
function openForm({ title, intro, fields, action, submit }) {
  const dialog = find("#dialog");
  const error = element("p", { class: "error", role: "alert", hidden: true });
  const confirm = element("button", { type: "submit", class: "primary" }, action);
  const form = element(
    "form",
    { method: "dialog" },
    element("h2", { id: "dialog-title" }, title),
    intro ? element("p", { class: "hint" }, intro) : null,
    ...fields,
    error,
    element("div", { class: "buttons" }, element("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), confirm),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    error.hidden = true;
    try {
      await submit(Object.fromEntries(new FormData(form)));
      // A summary may have taken the form's place.
      if (form.isConnected) dialog.close();
    } catch (refusal) {
      setText(error, refusal.message);
      error.hidden = false;
    } finally {
      confirm.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  find("select, input, textarea, button.primary", form)?.focus();
}

function labelled(label, control) {
  return element("label", { class: "field" }, element("span", {}, label), control);
}

/** Fills a drop-down with options, [value, title]; keeps what is chosen. */
function fillOptions(select, options, chosen = select.value) {
  const key = JSON.stringify(options);
  if (select.dataset.options === key) {
    if (select.value !== chosen) select.value = chosen;
    return;
  }
  select.dataset.options = key;
  select.replaceChildren(...options.map(([value, title]) => element("option", { value }, title)));
  select.value = chosen;
}

// ---- What a host can boot ------------------------------------------------------------------------------------------

const collator = new Intl.Collator("en", { numeric: true });
const sortedIds = (map) => [...map.keys()].sort(collator.compare);

function imageOptions(current) {
  const fixed = [
    ["localboot", "localboot"],
    ["menu", "menu"],
  ];
  const names = sortedIds(rows.images);
  if (current && !rows.images.has(current) && !fixed.some(([value]) => value === current)) names.unshift(current);
  return [...fixed, ...names.map((name) => [name, rows.images.get(name)?.phase === "Broken" ? `${name} (broken)` : name])];
}

/** Returns the configs that an ISO lists; a config that is set stays in the list. */
function configOptions(image, current) {
  const listed = rows.images.get(image)?.configs ?? [];
  const names = current && !listed.includes(current) ? [current, ...listed] : listed;
  return [["", names.length ? "none" : ""], ...names.map((name) => [name, name])];
}

const allows = (image, config) => !config || (rows.images.get(image)?.configs ?? []).includes(config);

const setImage = (row, image) =>
  patch(hostPath(row.id), { spec: { image, ...(allows(image, row.config) ? {} : { bootConfigRef: "" }) } });
const setConfig = (row, config) => patch(hostPath(row.id), { spec: { bootConfigRef: config } });
const act = (row, action, body) => request("POST", `${hostPath(row.id)}/${action}`, body);
const reinstall = (row) => act(row, "install", {});
const release = (row) => act(row, "localboot");
const hold = (row) => act(row, "hold");

/** Requests a power state. A state that was requested before counts as a new request, too. */
async function setPower(row, online) {
  const host = await patch(hostPath(row.id), { spec: { online } });
  if (host.status.power === (online ? "on" : "off") || host.status.powerTransition) return;
  await patch(hostPath(row.id), { spec: { online: null } });
  await patch(hostPath(row.id), { spec: { online } });
}

function restart(row) {
  const { namespace, name } = split(row.id);
  return request("POST", `/redfish/v1/Systems/${namespace}~${name}/Actions/ComputerSystem.Reset`, { ResetType: "ForceRestart" });
}

const isImage = (image) => image !== "localboot" && image !== "menu";

/** Returns the actions that a host has now. */
function actionsOf(row) {
  const found = [];
  if (row.isNew) found.push(["Approve …", () => approve(row)], ["Ignore", () => perform(row, "ignored", ignore)]);
  if (row.power) {
    found.push(["Restart", () => perform(row, "restarting", restart)]);
    if (row.power !== "on") found.push(["Power on", () => perform(row, "powering on", (one) => setPower(one, true))]);
    if (row.power !== "off") found.push(["Power off", () => perform(row, "powering off", (one) => setPower(one, false)), "danger"]);
  }
  if (isImage(row.image)) found.push(["Reinstall …", () => confirmReinstall([row]), "danger"]);
  if (row.phase !== "LocalBoot") found.push(["Release to its disk", () => perform(row, "released", release)]);
  if (row.phase !== "Held") found.push(["Hold", () => perform(row, "held", hold)]);
  return found;
}

async function perform(row, done, action) {
  try {
    await action(row);
    toast(`${split(row.id).name}: ${done}`);
  } catch (refusal) {
    toast(`${split(row.id).name}: ${refusal.message}`, { isError: true });
  }
}

/** Decides that a new machine is not wanted: it is held, and no longer new. */
const ignore = (row) => patch(hostPath(row.id), { metadata: { annotations: { "bootlatch.io/ignored": new Date().toISOString() } } }).then(() => hold(row));

function approve(row) {
  const image = element("select", { name: "image" });
  const config = element("select", { name: "config" });
  const update = () => {
    fillOptions(config, configOptions(image.value, ""), allows(image.value, config.value) ? config.value : "");
    config.disabled = config.options.length < 2;
  };
  const first = sortedIds(rows.images)[0] ?? "localboot";
  fillOptions(image, imageOptions(), isImage(row.image) ? row.image : first);
  image.addEventListener("change", update);
  update();
  openForm({
    title: `Approve ${split(row.id).name}`,
    intro: `${row.mac}${row.firmware ? `, ${row.firmware}` : ""}${row.address ? `, ${row.address}` : ""}. It boots what you choose at its next boot.`,
    fields: [labelled("ISO", image), labelled("Config", config)],
    action: "Approve",
    submit: ({ image: chosen, config: ref }) =>
      isImage(chosen)
        ? act(row, "install", { image: chosen, bootConfigRef: ref ?? "" })
        : patch(hostPath(row.id), { spec: { image: chosen, bootConfigRef: "" } }).then(() => (chosen === "localboot" ? release(row) : null)),
  });
}

function confirmReinstall(chosen) {
  const what = chosen.length === 1 ? split(chosen[0].id).name : `${chosen.length} hosts`;
  openForm({
    title: `Reinstall ${what}?`,
    intro: "The next boot starts the install again. What is on the disk may be erased.",
    fields: [],
    action: "Reinstall",
    submit: () => (chosen.length === 1 ? reinstall(chosen[0]) : bulk(chosen, "reinstalled", reinstall)),
  });
}

/** Does the same to many hosts, six at a time, and sums up who refused and why. */
async function bulk(chosen, done, action) {
  const refusals = new Map();
  let count = 0;
  const queue = [...chosen];
  const worker = async () => {
    for (let row = queue.shift(); row; row = queue.shift()) {
      try {
        await action(rows.hosts.get(row.id) ?? row);
        count += 1;
      } catch (refusal) {
        // Messages that differ in the host's own name are one.
        const reason = refusal.message.replaceAll(split(row.id).name, "HOST");
        refusals.set(reason, [...(refusals.get(reason) ?? []), row]);
      }
    }
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  if (!refusals.size) return toast(`${count} ${count === 1 ? "host" : "hosts"} ${done}`);
  const refused = chosen.length - count;
  const groups = [...refusals].map(([reason, group]) =>
    element("li", {}, element("strong", {}, `${group.length} × `), reason, element("p", { class: "hint" }, names(group))),
  );
  const dialog = find("#dialog");
  dialog.replaceChildren(
    element("h2", { id: "dialog-title" }, `${count} ${done}, ${refused} refused`),
    element("ul", { class: "refusals" }, ...groups),
    element("form", { method: "dialog", class: "buttons" }, element("button", { class: "primary" }, "Close")),
  );
  if (!dialog.open) dialog.showModal();
}

function names(group) {
  const shown = group.slice(0, 8).map((row) => split(row.id).name);
  return group.length > 8 ? `${shown.join(", ")} and ${group.length - 8} more` : shown.join(", ");
}

// ---- Drop-downs of a host ------------------------------------------------------------------------------------------

/** Changes under way and refusals, by host and field: a row may leave the view and come back meanwhile. */
const fieldStates = new Map();
const fieldListeners = [];
const onField = (listener) => fieldListeners.push(listener);

/** The drop-down of a host's ISO or config. A refusal is shown at it, and the value goes back. */
class HostField {
  constructor(id, field) {
    [this.id, this.field, this.key] = [id, field, `${id} ${field}`];
    const label = `${field === "image" ? "ISO" : "Config"} of ${split(id).name}`;
    this.select = element("select", { "aria-label": label, data: { field } });
    this.message = element("span");
    const close = element("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => this.setState(null) }, "×");
    this.bubble = element("div", { class: "refusal", role: "alert", hidden: true }, this.message, close);
    this.elements = [this.select, this.bubble];
    // The options are filled in when they are needed: thousands of rows with hundreds of ISOs are too many.
    for (const event of ["focus", "pointerdown"]) this.select.addEventListener(event, () => this.offer());
    this.select.addEventListener("blur", () => this.update(rows.hosts.get(id)));
    this.select.addEventListener("change", () => this.change(this.select.value));
  }

  offer() {
    const row = rows.hosts.get(this.id);
    if (row) fillOptions(this.select, this.options(row, this.select.value));
  }

  options(row, value) {
    return this.field === "image" ? imageOptions(value) : configOptions(row.image, value);
  }

  setState(state) {
    if (state) fieldStates.set(this.key, state);
    else fieldStates.delete(this.key);
    this.update(rows.hosts.get(this.id), true);
    fieldListeners.forEach((listener) => listener(this.id));
  }

  async change(value) {
    this.setState({ value });
    try {
      const row = rows.hosts.get(this.id);
      const host = await (this.field === "image" ? setImage(row, value) : setConfig(row, value));
      const now = rows.hosts.get(this.id);
      // The stream brings the row soon; until then the page shows what the server has accepted.
      if (now) rows.hosts.set(this.id, { ...now, image: host.spec.image || "localboot", config: host.spec.bootConfigRef ?? "", phase: host.status.phase });
      this.setState(null);
    } catch (refusal) {
      this.setState({ message: refusal.message });
    }
  }

  /** Shows a row's value. A drop-down in use keeps its state unless `isForced`: it may be open. */
  update(row, isForced = false) {
    if (!row) return;
    const { select } = this;
    const state = fieldStates.get(this.key);
    const inUse = document.activeElement === select;
    if (!inUse || isForced) {
      const value = state?.value ?? row[this.field] ?? "";
      const options = this.options(row, value);
      if (inUse) fillOptions(select, options, value);
      else if (select.value !== value || !select.options.length) {
        fillOptions(select, options.filter(([one]) => one === value), value);
      }
      if (!inUse) select.disabled = options.length < 2;
    }
    setAttribute(select, "aria-busy", state?.value === undefined ? null : "true");
    setAttribute(select, "aria-invalid", state?.message ? "true" : null);
    this.bubble.hidden = !state?.message;
    setText(this.message, state?.message ?? "");
  }
}

// ---- Hosts ---------------------------------------------------------------------------------------------------------

const PHASES = ["LocalBoot", "Held", "Assigned", "Offered", "Installing", "Installed", "Failed"];
const why = (row) => (row.stall ? row.stall.title : row.isNew ? "new machine" : (row.note ?? ""));
const needsYou = (row) => Boolean(row.stall || row.isNew || row.phase === "Failed");
/** Returns the group of the strip "needs you" that a host belongs to. */
const groupOf = (row) => (row.stall ? row.stall.reason : row.phase === "Failed" ? "failed" : row.isNew ? "new" : null);

/** Returns what to do in an installation that has seen no machine yet. */
function firstSteps() {
  const step = (title, text, ...more) => element("li", {}, element("b", {}, title), element("span", {}, text, ...more));
  return element(
    "div",
    { class: "first-steps" },
    element("h2", {}, "First steps"),
    element(
      "ol",
      {},
      step("See the network. ", "Look at which interfaces are served, and whether another boot server answers there: ", element("a", { href: "/ui/network" }, "Network"), "."),
      step("Add an ISO. ", "Drop an installer's ISO on ", element("a", { href: "/ui/isos" }, "ISOs"), ", or run ", element("code", {}, "bootlatch iso add NAME FILE"), "."),
      step("Boot a machine. ", "Switch on one that boots from the network. It appears here as new, and you decide what it gets."),
      step("Write a rule. ", "Rules in the configuration decide about new machines by themselves; ", element("code", {}, "bootlatch rehearse --mac MAC"), " shows what they do."),
    ),
  );
}

/** The table of all hosts. Only the rows in view are elements. */
class HostTable {
  constructor() {
    this.scroll = find("#scroll");
    this.body = find("#rows");
    this.above = this.body.appendChild(element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", { colspan: 10 })));
    this.below = this.body.appendChild(element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", { colspan: 10 })));
    this.shown = new Map();
    this.view = [];
    this.selected = new Set();
    this.texts = new Map();
    this.ranks = new Map();
    this.ordered = [];
    this.cursor = null;
    this.readLocation();
    this.listen();
  }

  readLocation() {
    const query = new URLSearchParams(location.search);
    this.query = query.get("q") ?? "";
    this.phase = query.get("phase") ?? "";
    this.power = query.get("power") ?? "";
    this.group = query.get("need") ?? "";
    this.sort = query.get("sort") ?? "id";
    find("#search").value = this.query;
    fillOptions(find("#phase"), [["", "All phases"], ...PHASES.map((phase) => [phase, phase])], this.phase);
    find("#power").value = this.power;
  }

  writeLocation() {
    const query = new URLSearchParams();
    const pairs = { q: this.query, phase: this.phase, power: this.power, need: this.group, sort: this.sort === "id" ? "" : this.sort };
    for (const [name, value] of Object.entries(pairs)) if (value) query.set(name, value);
    const text = query.toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
  }

  listen() {
    const filter = (name) => (event) => {
      this[name] = event.target.value;
      this.changeFilter();
    };
    find("#search").addEventListener("input", filter("query"));
    find("#phase").addEventListener("change", filter("phase"));
    find("#power").addEventListener("change", filter("power"));
    find("#all").addEventListener("change", (event) => this.selectAll(event.target.checked));
    for (const head of findAll("[data-sort]")) {
      find("button", head).addEventListener("click", () => {
        const key = head.dataset.sort;
        this.sort = this.sort === key ? `-${key}` : key;
        this.changeFilter();
      });
    }
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    // While a drop-down is in use, the rows keep their places.
    this.body.addEventListener("focusout", () => setTimeout(() => this.isStale && !this.isFrozen() && this.refresh()));
    window.addEventListener("popstate", () => {
      this.readLocation();
      this.refresh();
    });
    onRows((change) => this.update(change));
    onField((id) => this.fillById(id));
  }

  changeFilter() {
    this.writeLocation();
    this.refresh();
    this.scroll.scrollTop = 0;
  }

  isFrozen() {
    return document.activeElement?.tagName === "SELECT" && this.body.contains(document.activeElement);
  }

  /** Takes changed rows: draws those in view, and sorts and filters again where that may differ. */
  update(change) {
    const changed = change ? (change.hosts ?? []) : [...rows.hosts.values()];
    const gone = change ? (change.goneHosts ?? []) : [];
    let isOtherView = !change || gone.length > 0;
    for (const id of gone) [this.texts, this.ranks, this.selected].forEach((one) => one.delete(id));
    for (const row of changed) {
      this.texts.delete(row.id);
      isOtherView ||= !this.ranks.has(row.id) || this.keyChanged(row);
    }
    if (!change) this.rank(sortedIds(rows.hosts));
    else if (gone.length || changed.some((row) => !this.ranks.has(row.id))) this.insert(changed);
    if (changed.length || gone.length) this.drawNeeds();
    if (isOtherView && !this.isFrozen()) this.refresh();
    else {
      this.isStale ||= isOtherView;
      const touched = change?.images ? this.shown.keys() : changed.map((row) => row.id);
      for (const id of touched) if (this.shown.has(id)) this.fill(this.shown.get(id), rows.hosts.get(id));
    }
  }

  /** Returns whether a row's place may have changed: its filter, or what it is sorted by. */
  keyChanged(row) {
    const key = `${this.matches(row)} ${this.sortKey(row, this.sort.replace("-", ""))}`;
    const before = this.keys?.get(row.id);
    return before !== key;
  }

  /** Takes the ids of all hosts in the order of their names. */
  rank(ordered) {
    this.ordered = ordered;
    this.ranks = new Map(ordered.map((id, at) => [id, at]));
  }

  /** Puts the ids of new rows in their places, and leaves out those that are gone: cheaper than to sort all again. */
  insert(changed) {
    const ordered = this.ordered.filter((id) => rows.hosts.has(id));
    for (const { id } of changed) {
      if (this.ranks.has(id)) continue;
      let [low, high] = [0, ordered.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (collator.compare(ordered[middle], id) < 0) low = middle + 1;
        else high = middle;
      }
      ordered.splice(low, 0, id);
    }
    this.rank(ordered);
  }

  text(row) {
    let text = this.texts.get(row.id);
    if (text === undefined) {
      text = [row.id, row.mac, row.image, row.config, row.phase, row.address, row.firmware, why(row), row.stall?.reason].join(" ").toLowerCase();
      this.texts.set(row.id, text);
    }
    return text;
  }

  matches(row) {
    if (this.phase && row.phase !== this.phase) return false;
    if (this.power && row.power !== this.power) return false;
    if (this.group && groupOf(row) !== this.group) return false;
    if (!this.query) return true;
    const text = this.text(row);
    return this.query.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  sortKey(row, key) {
    switch (key) {
      case "phase": return PHASES.indexOf(row.phase);
      case "power": return ["on", "off", "unknown"].indexOf(row.power);
      case "boot": return -(row.boot ?? 0);
      case "why": return why(row) || "\uffff";
      case "id": return this.ranks.get(row.id) ?? 0;
      default: return row[key] || "\uffff";
    }
  }

  /** Filters and sorts all rows, and draws them. */
  refresh() {
    this.isStale = false;
    const descending = this.sort.startsWith("-");
    const key = this.sort.replace("-", "");
    const found = [];
    this.keys = new Map();
    for (const row of rows.hosts.values()) {
      const [matches, own] = [this.matches(row), this.sortKey(row, key)];
      this.keys.set(row.id, `${matches} ${own}`);
      if (matches) found.push([own, this.ranks.get(row.id), row.id]);
    }
    const sign = descending ? -1 : 1;
    found.sort(([a, i], [b, j]) => (a < b ? -sign : a > b ? sign : i - j));
    this.view = found.map(([, , id]) => id);
    for (const head of findAll("[data-sort]")) {
      const is = head.dataset.sort === key;
      setAttribute(head, "aria-sort", is ? (descending ? "descending" : "ascending") : null);
    }
    const total = rows.hosts.size;
    setText(find("#count"), this.view.length === total ? `${total} hosts` : `${this.view.length} of ${total} hosts`);
    this.drawChip();
    const empty = find("#empty");
    empty.hidden = this.view.length > 0;
    if (total) empty.replaceChildren("No host matches.");
    else if (!find("ol", empty)) empty.replaceChildren(firstSteps());
    setAttribute(find("#hosts"), "aria-rowcount", this.view.length + 1);
    this.draw();
    this.drawBulk();
  }

  rowHeight() {
    return parseFloat(getComputedStyle(this.scroll).getPropertyValue("--row")) || 36;
  }

  /** Makes the rows in view elements, and removes the others; the row that has the focus stays. */
  draw() {
    const height = this.rowHeight();
    const visible = Math.ceil(this.scroll.clientHeight / height);
    const spare = Math.min(8, Math.ceil(visible / 3));
    const first = Math.max(0, Math.min(Math.floor(this.scroll.scrollTop / height) - spare, this.view.length - 1));
    const last = Math.min(this.view.length, first + visible + 2 * spare);
    const wanted = this.view.slice(first, last);
    let [above, below] = [first, this.view.length - last];
    const focused = document.activeElement?.closest?.("#rows tr[data-id]");
    if (focused && !wanted.includes(focused.dataset.id)) {
      const at = this.view.indexOf(focused.dataset.id);
      if (at >= 0 && at < first) [above] = [above - 1, wanted.unshift(focused.dataset.id)];
      else if (at >= last) [below] = [below - 1, wanted.push(focused.dataset.id)];
    }
    const keep = new Set(wanted);
    for (const [id, line] of this.shown) {
      if (keep.has(id)) continue;
      line.remove();
      this.shown.delete(id);
    }
    let next = this.above.nextSibling;
    for (const id of wanted) {
      let line = this.shown.get(id);
      if (!line) {
        line = this.make(id);
        this.shown.set(id, line);
      }
      this.fill(line, rows.hosts.get(id));
      if (line === next) next = next.nextSibling;
      else if (line === focused) {
        // The row with the focus is never moved: that would close its drop-down. The others move around it.
        while (next !== line) {
          const passed = next;
          next = next.nextSibling;
          this.body.insertBefore(passed, this.below);
        }
        next = next.nextSibling;
      } else this.body.insertBefore(line, next);
    }
    const place = (spacer, count) => {
      const text = `${count * height}px`;
      if (spacer.firstChild.style.height !== text) spacer.firstChild.style.height = text;
    };
    place(this.above, above);
    place(this.below, below);
    wanted.forEach((id) => setAttribute(this.shown.get(id), "aria-rowindex", this.view.indexOf(id, Math.max(0, first - 1)) + 2));
  }

  make(id) {
    const line = element("tr", { data: { id } });
    const cells = {
      pick: element("input", { type: "checkbox", "aria-label": `Select ${split(id).name}`, onchange: (event) => this.select(id, event.target.checked) }),
      link: element("a", { href: hostPage(id) }, split(id).name),
      badge: element("span", { class: "badge" }),
      mac: element("code"),
      phase: element("span", { class: "phase" }),
      power: element("span", { class: "power" }),
      boot: element("time"),
      why: element("span", { class: "why" }),
    };
    line.cells_ = cells;
    for (const field of ["image", "config"]) cells[field] = isAdmin ? new HostField(id, field) : element("span");
    const actions = element(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-haspopup": "menu",
        "aria-expanded": "false",
        "aria-label": `Actions for ${split(id).name}`,
        onclick: (event) => openMenu(event.currentTarget, actionsOf(rows.hosts.get(id))),
      },
      "⋯",
    );
    const cell = (label, ...children) => element("td", { data: { label } }, ...children);
    line.append(
      element("td", { class: "pick" }, isAdmin ? cells.pick : ""),
      element("th", { scope: "row" }, cells.link, cells.badge),
      cell("MAC", cells.mac),
      cell("ISO", ...(isAdmin ? cells.image.elements : [cells.image])),
      cell("Config", ...(isAdmin ? cells.config.elements : [cells.config])),
      cell("Phase", cells.phase),
      cell("Power", cells.power),
      cell("Last boot", cells.boot),
      cell("Why", cells.why),
      element("td", { class: "actions" }, isAdmin ? actions : ""),
    );
    line.addEventListener("focusin", () => this.setCursor(id, false));
    return line;
  }

  fillById(id) {
    const line = this.shown.get(id);
    if (line) this.fill(line, rows.hosts.get(id));
  }

  /** Sets the cells of a row that differ. */
  fill(line, row) {
    if (!row) return;
    const cells = line.cells_;
    const isSelected = this.selected.has(row.id);
    if (cells.pick.checked !== isSelected) cells.pick.checked = isSelected;
    line.classList.toggle("new", Boolean(row.isNew));
    line.classList.toggle("stalled", Boolean(row.stall) || row.phase === "Failed");
    line.classList.toggle("cursor", this.cursor === row.id);
    setText(cells.badge, row.isNew ? "new" : row.forever ? "every boot" : "");
    setText(cells.mac, row.mac);
    setText(cells.phase, row.phase);
    setAttribute(cells.phase, "data-phase", row.phase);
    setAttribute(cells.phase, "title", row.since ? `since ${exactTime(row.since)}` : null);
    setText(cells.power, powerText(row));
    setAttribute(cells.power, "data-power", row.target ? "changing" : (row.power ?? ""));
    setTime(cells.boot, row.boot);
    setText(cells.why, why(row));
    setAttribute(cells.why, "title", row.stall ? `${row.stall.message} ${row.stall.remedy}` : row.note);
    setAttribute(cells.why, "data-certainty", row.stall?.certainty);
    for (const field of ["image", "config"]) {
      if (isAdmin) cells[field].update(row);
      else setText(cells[field], row[field] ?? "");
    }
  }

  // Needs you

  drawNeeds() {
    const groups = new Map();
    for (const row of rows.hosts.values()) {
      if (!needsYou(row)) continue;
      const key = groupOf(row);
      const group = groups.get(key) ?? { key, count: 0, title: this.groupTitle(row, key), since: Infinity };
      group.count += 1;
      group.since = Math.min(group.since, row.stall?.since ?? row.since ?? Infinity);
      groups.set(key, group);
    }
    const ordered = [...groups.values()].sort((a, b) => (b.key === "new") - (a.key === "new") || b.count - a.count || a.key.localeCompare(b.key));
    find("#needs").hidden = !ordered.length;
    const make = ({ key }) =>
      element("li", {}, element("button", { type: "button", onclick: () => this.toggleGroup(key) }, element("b"), element("span"), element("time")));
    keyed(find("#needs-list"), ordered, ({ key }) => key, make, (item, group) => {
      const [count, title, since] = item.firstChild.children;
      setText(count, String(group.count));
      setText(title, group.title);
      setTime(since, group.since === Infinity ? null : group.since);
      setAttribute(item.firstChild, "aria-pressed", String(this.group === group.key));
      item.classList.toggle("new", group.key === "new");
    });
  }

  groupTitle(row, key) {
    if (key === "new") return "new machines";
    if (key === "failed") return "failed installs";
    return row.stall.title;
  }

  /** Shows the hosts of a group, and selects them. */
  toggleGroup(key) {
    this.group = this.group === key ? "" : key;
    this.selected.clear();
    this.changeFilter();
    if (this.group && isAdmin) this.selectAll(true);
    this.drawNeeds();
  }

  drawChip() {
    const chip = find("#filter-chip");
    if (!this.group) return chip.replaceChildren();
    if (chip.dataset.group === this.group && chip.firstChild) return;
    chip.dataset.group = this.group;
    const clear = element("button", { type: "button", class: "chip", onclick: () => this.toggleGroup(this.group) }, `${this.group.replaceAll("_", " ")} ×`);
    clear.setAttribute("aria-label", `Remove the filter ${this.group}`);
    chip.replaceChildren(clear);
  }

  // Selection

  select(id, isSelected) {
    this.selected[isSelected ? "add" : "delete"](id);
    this.drawBulk();
  }

  selectAll(isSelected) {
    this.view.forEach((id) => this.selected[isSelected ? "add" : "delete"](id));
    for (const [id, line] of this.shown) line.cells_.pick.checked = this.selected.has(id);
    this.drawBulk();
  }

  chosen() {
    return [...this.selected].map((id) => rows.hosts.get(id)).filter(Boolean);
  }

  drawBulk() {
    const bar = find("#bulk");
    const all = find("#all");
    const inView = this.view.filter((id) => this.selected.has(id)).length;
    all.hidden = !isAdmin;
    all.checked = inView > 0 && inView === this.view.length;
    all.indeterminate = inView > 0 && inView < this.view.length;
    if (!this.selected.size || !isAdmin) {
      bar.hidden = true;
      return;
    }
    if (!bar.firstChild) this.makeBulk(bar);
    setText(bar.firstChild, `${this.selected.size} selected`);
    bar.hidden = false;
  }

  makeBulk(bar) {
    const button = (title, action, kind) => element("button", { type: "button", class: kind, onclick: action }, title);
    const run = (done, action) => () => bulk(this.chosen(), done, action);
    bar.append(
      element("strong"),
      button("Assign …", () => this.assignMany()),
      button("Reinstall …", () => confirmReinstall(this.chosen()), "danger"),
      button("Release", run("released", release)),
      button("Hold", run("held", hold)),
      button("Power on", run("switched on", (row) => setPower(row, true))),
      button("Power off", run("switched off", (row) => setPower(row, false)), "danger"),
      button("Clear selection", () => (this.selected.clear(), this.draw(), this.drawBulk()), "quiet"),
    );
  }

  assignMany() {
    const image = element("select", { name: "image" });
    const config = element("select", { name: "config" });
    const update = () => {
      fillOptions(config, configOptions(image.value, ""), "");
      config.disabled = config.options.length < 2;
    };
    fillOptions(image, imageOptions(), sortedIds(rows.images)[0] ?? "localboot");
    image.addEventListener("change", update);
    update();
    const chosen = this.chosen();
    openForm({
      title: `Assign to ${chosen.length} ${chosen.length === 1 ? "host" : "hosts"}`,
      fields: [labelled("ISO", image), labelled("Config", config)],
      action: "Assign",
      submit: ({ image: target, config: ref }) => bulk(chosen, "assigned", (row) => patch(hostPath(row.id), { spec: { image: target, bootConfigRef: ref ?? "" } })),
    });
  }

  // Keyboard

  setCursor(id, moves = true) {
    if (this.cursor === id) return;
    this.shown.get(this.cursor)?.classList.remove("cursor");
    this.cursor = id;
    this.shown.get(id)?.classList.add("cursor");
    if (!moves) return;
    const [at, height] = [this.view.indexOf(id), this.rowHeight()];
    const head = find("thead", this.scroll).offsetHeight;
    const [top, bottom] = [at * height, (at + 1) * height + head];
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (bottom > this.scroll.scrollTop + this.scroll.clientHeight) this.scroll.scrollTop = bottom - this.scroll.clientHeight;
    this.draw();
    find("a", this.shown.get(id))?.focus({ preventScroll: true });
  }

  move(step) {
    if (!this.view.length) return;
    const at = this.view.indexOf(this.cursor);
    const next = at < 0 ? 0 : Math.max(0, Math.min(this.view.length - 1, at + step));
    this.setCursor(this.view[next]);
  }

  key(name) {
    const row = rows.hosts.get(this.cursor);
    if (name === "j") this.move(1);
    else if (name === "k") this.move(-1);
    else if (!row || !isAdmin) return false;
    else if (name === "x") {
      this.select(row.id, !this.selected.has(row.id));
      this.fillById(row.id);
    } else if (name === "a") approve(row);
    else if (name === "r" && isImage(row.image)) confirmReinstall([row]);
    else return false;
    return true;
  }
}

// ---- Host ----------------------------------------------------------------------------------------------------------

/** The lanes of a boot: the stages of the ledger and the events of the timeline that belong to each. */
const LANES = [
  ["Power", ["power"], ["power", "power_switched", "bmc_failed"]],
  ["DHCP", ["other_interface", "ipv6", "unheard", "dhcp"], ["offer", "other_dhcp_server"]],
  ["TFTP", ["program", "program_start"], ["tftp_started", "tftp_completed"]],
  ["HTTP", ["script", "wait"], ["script", "waiting_for_image"]],
  ["iSCSI", ["loader", "kernel"], ["iscsi_login", "iscsi_redirect", "read_failed"]],
  ["Config", ["install"], ["config_fetched", "installer"]],
  ["Done", ["system"], ["boot_completed", "local_disk", "install_failed"]],
];

const STAGES = {
  power: "power on",
  other_interface: "other interface first",
  ipv6: "IPv6 first",
  unheard: "not heard",
  dhcp: "DHCP",
  program: "boot program",
  program_start: "program starts",
  script: "boot script",
  wait: "waiting",
  loader: "boot loader",
  kernel: "kernel",
  install: "installer",
  system: "installed system",
};

const HISTORY = [
  ["", "All"],
  ["install", "Installs", ["assigned", "script", "config_fetched", "boot_completed", "install_failed", "local_boot_requested", "held", "first_seen", "boot_finished"]],
  ["power", "Power", ["power", "power_switched", "bmc_failed"]],
  ["installer", "Installer", ["installer"]],
  ["trouble", "Trouble", ["refused", "warning", "stalled", "stall_cleared", "read_failed", "install_failed", "bmc_failed"]],
];

/** Returns an event of the timeline as a sentence. */
function describe({ event, detail = {} }) {
  const details = detail;
  switch (event) {
    case "first_seen": return "seen for the first time";
    case "assigned": return `install of ${details.image} requested`;
    case "local_boot_requested": return "boot from its disk requested";
    case "held": return "held: no protocol answers it";
    case "offer": return `offered ${details.file} to ${details.architecture}`;
    case "tftp_started": return `began to load ${details.file}`;
    case "tftp_completed": return `loaded ${details.file}: ${size(details.bytes)} in ${details.milliseconds} ms${details.resent ? `, ${details.resent} blocks sent again` : ""}`;
    case "script": return `got its boot script: ${details.action}${details.image ? ` ${details.image}` : ""}${details.reason ? ` (${details.reason})` : ""}`;
    case "iscsi_login": return `logged in to ${details.image ?? details.target}`;
    case "config_fetched": return `fetched its config ${details.config}${details.file ? `/${details.file}` : ""}`;
    case "boot_completed": return "reported that its install is complete";
    case "local_disk": return `was sent to its disk (${details.reason})`;
    case "installer": return `${details.stage ? `${details.stage}: ` : ""}${details.message}`;
    case "power": return `power ${details.state}`;
    case "power_switched": return `power request sent: ${details.reset}`;
    case "refused": return `refused over ${details.protocol}: ${details.message}`;
    case "stalled": return details.message;
    case "stall_cleared": return `boots on: ${details.reason.replaceAll("_", " ")} is over`;
    case "boot_finished": return `boot finished after ${duration(details.milliseconds / 1000)}: ${details.outcome.replaceAll("_", " ")}`;
    case "address_changed": return `address changed from ${details.from} to ${details.to}`;
    default:
      return details.message ?? Object.entries(details).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  }
}

const seconds = (time) => Date.parse(time) / 1000;
const entryKey = (entry) => `${entry.time} ${entry.mac ?? ""} ${entry.event}`;

/** Makes the line of an entry of the timeline. */
function entryLine(withHost) {
  return (entry) =>
    element(
      "li",
      { data: { event: entry.event } },
      timeElement(seconds(entry.time)),
      element("span", { class: "event" }, entry.event.replaceAll("_", " ")),
      withHost ? element(entry.host ? "a" : "span", entry.host ? { href: `/ui/hosts?q=${entry.host}` } : {}, entry.host ?? "server") : null,
      element("span", { class: "what" }),
    );
}

function updateEntry(line, entry) {
  setTime(line.firstChild, seconds(entry.last ?? entry.time));
  setText(line.lastChild, describe(entry) + (entry.count > 1 ? ` (${entry.count} times)` : ""));
}

/** The page of one host. */
class HostPage {
  constructor() {
    this.id = find("#host").dataset.id;
    this.kind = new URLSearchParams(location.search).get("show") ?? "";
    this.entries = [];
    rowsQuery = `?host=${encodeURIComponent(this.id)}`;
    streamQuery = `&host=${encodeURIComponent(this.id)}`;
    streamListeners = { host: (news) => this.show(news) };
    if (isAdmin) this.fields = ["image", "config"].map((field) => new HostField(this.id, field));
    this.makeTarget();
    this.makeHistory();
    find("#rehearse").addEventListener("click", (event) => this.rehearse(event.target));
    find("#object").addEventListener("toggle", () => this.showObject());
    onRows((change) => this.update(change));
    onField(() => this.update(null));
    setInterval(() => !document.hidden && this.boot && !this.boot.outcome && this.drawBoot(), 1000);
  }

  get row() {
    return rows.hosts.get(this.id);
  }

  makeTarget() {
    const part = (label, elements) => element("label", { class: "field" }, element("span", {}, label), element("span", { class: "value" }, ...elements));
    this.values = ["image", "config"].map(() => element("span"));
    const elements = (at) => (isAdmin ? this.fields[at].elements : [this.values[at]]);
    this.note = element("p", { class: "hint" });
    find("#target").append(part("ISO", elements(0)), part("Config", elements(1)), this.note);
  }

  update(change) {
    const row = this.row;
    if (change?.goneHosts?.includes(this.id)) return this.showGone();
    if (!row || (change && !change.hosts?.some(({ id }) => id === this.id) && !change.images && !change.configs)) return;
    setText(find("#phase"), row.phase);
    setAttribute(find("#phase"), "data-phase", row.phase);
    setText(find("#power"), powerText(row));
    setAttribute(find("#power"), "data-power", row.target ? "changing" : (row.power ?? ""));
    keyed(find("#facts"), this.facts(row), ([name]) => name, ([name]) => element("span", { title: name }), (shown, [, value]) => {
      if (typeof value === "string") setText(shown, value);
      else {
        if (!shown.firstChild) shown.append("seen ", element("time"));
        setTime(shown.lastChild, value);
      }
    });
    if (isAdmin) this.fields.forEach((field) => field.update(row));
    else [row.image, row.config || "none"].forEach((value, at) => setText(this.values[at], value));
    setText(this.note, row.stall ? "" : (row.note ?? ""));
    this.showActions(row);
    this.showDiagnosis(row);
    this.showObjectSoon();
  }

  facts(row) {
    const found = [["MAC address", row.mac]];
    if (row.address) found.push(["address", row.address]);
    if (row.firmware) found.push(["firmware", row.firmware]);
    if (row.forever) found.push(["boot mode", "every boot"]);
    if (row.seen) found.push(["last request", row.seen]);
    return found;
  }

  showActions(row) {
    if (!isAdmin) return;
    const make = ([title, , kind]) =>
      element("button", { type: "button", class: kind, onclick: () => actionsOf(this.row).find(([one]) => one === title)?.[1]() }, title);
    keyed(find("#actions"), actionsOf(row), ([title]) => title, make);
  }

  showDiagnosis(row) {
    const box = find("#diagnosis");
    box.hidden = !row.stall;
    if (!row.stall) return box.replaceChildren();
    if (!box.firstChild) {
      box.append(element("h2"), element("p", { class: "certainty" }, element("b"), ", since ", element("time")), element("p"), element("p", { class: "remedy" }), element("div", { class: "advised" }));
    }
    const [title, certainty, message, remedy, advised] = box.children;
    setText(title, row.stall.title[0].toUpperCase() + row.stall.title.slice(1));
    setText(certainty.firstChild, row.stall.certainty);
    setTime(certainty.lastChild, row.stall.since);
    setText(message, row.stall.message);
    setText(remedy, row.stall.remedy);
    box.dataset.certainty = row.stall.certainty;
    const advice = isAdmin ? advisedActions(row) : [];
    const make = ([name]) => element("button", { type: "button", onclick: () => advisedActions(this.row).find(([one]) => one === name)?.[1]() }, name);
    keyed(advised, advice, ([name]) => name, make);
  }

  showGone() {
    find("#host").replaceChildren(element("h1", {}, split(this.id).name), element("p", {}, "This host was deleted. ", element("a", { href: "/ui/hosts" }, "All hosts")));
  }

  show({ diagnosis, timeline }) {
    this.entries = timeline;
    this.ledgers = diagnosis.ledger;
    this.steps = diagnosis.steps;
    this.boot = diagnosis.ledger.at(-1);
    this.drawBoot();
    this.drawLedgers();
    this.drawHistory();
  }

  // The boot as lanes

  drawBoot() {
    if (!this.boot) return;
    const { boot } = this;
    const box = find("#boot");
    if (!this.lanes) {
      this.lanes = element("div", { class: "lanes", role: "table", "aria-label": "Stages of the last boot" });
      this.summary = element("p", { class: "hint" });
      this.next = element("p", { class: "next" }, element("span"), " ", element("b", { data: { due: "" } }));
      this.seen = element("ol", { class: "log steps" });
      box.replaceChildren(this.summary, this.lanes, this.next, element("details", {}, element("summary", {}, "What was seen"), this.seen));
    }
    const isOver = Boolean(boot.outcome);
    const begin = seconds(boot.begin);
    const end = isOver ? seconds(boot.end) : Math.max(serverNow(), seconds(boot.end));
    const due = boot.next?.due ? seconds(boot.next.due) : null;
    // A step that may take an hour must not squeeze the seconds before it.
    const ahead = Math.min(Math.max(0, (due ?? 0) - end), 5 + (end - begin) / 2);
    const span = Math.max(1, end + ahead - begin);
    setText(this.summary, `${isOver ? `${boot.outcome.replaceAll("_", " ")} after` : "goes on since"} ${duration(end - begin)}, begun ${exactTime(begin)}`);
    keyed(this.lanes, LANES, ([name]) => name, ([name]) => this.makeLane(name), (lane, [, stages, events]) => this.drawLane(lane, stages, events, { begin, end, span, due, isOver }));
    this.next.hidden = isOver || !boot.next;
    if (boot.next) {
      setText(this.next.firstChild, `Next: it ${boot.next.text}.`);
      const shown = this.next.lastChild;
      shown.hidden = due == null;
      if (due != null) {
        shown.dataset.due = due;
        showCountdown(shown);
      }
    }
    keyed(this.seen, this.steps, ({ first, text }) => `${first} ${text}`, ({ first, text }) => element("li", {}, timeElement(seconds(first)), element("span", { class: "what" }, text), element("span", { class: "hint" })), (line, { count, last }) => {
      setText(line.lastChild, count > 1 ? `${count} times, last ${ago(seconds(last))}` : "");
    });
  }

  makeLane(name) {
    return element(
      "div",
      { class: "lane", role: "row" },
      element("span", { class: "name", role: "rowheader" }, name),
      element("span", { class: "track", role: "cell", "aria-hidden": "true" }),
      element("span", { class: "time", role: "cell" }),
    );
  }

  drawLane(lane, stages, events, { begin, end, span, due, isOver }) {
    const [, track, time] = lane.children;
    const { boot } = this;
    const percent = (value) => `${Math.max(0, Math.min(100, (value / span) * 100)).toFixed(2)}%`;
    const own = boot.stages.filter(({ stage }) => stages.includes(stage));
    const running = isOver ? null : boot.stages.at(-1);
    const bars = own.map((stage) => {
      const start = seconds(stage.start);
      const length = stage === running ? end - start : stage.milliseconds / 1000;
      return { key: `bar ${stage.start} ${stage.stage}`, kind: stage === running ? "bar running" : "bar", left: start - begin, length, title: `${STAGES[stage.stage]}: ${duration(length)}${stage.note ? `, ${stage.note}` : ""}` };
    });
    const marks = this.entries
      .filter((entry) => events.includes(entry.event) && seconds(entry.time) >= begin - 0.5 && seconds(entry.time) <= end + 0.5)
      .map((entry) => ({ key: `mark ${entryKey(entry)}`, kind: `mark ${entry.event}`, left: seconds(entry.time) - begin, title: describe(entry) }));
    const ghost = !isOver && boot.next && stages.includes(boot.next.stage) && due > end ? [{ key: "ghost", kind: "ghost", left: end - begin, length: due - end, title: `it ${boot.next.text}` }] : [];
    keyed(track, [...bars, ...ghost, ...marks], ({ key }) => key, () => element("i"), (shown, { kind, left, length, title }) => {
      setAttribute(shown, "class", kind);
      setAttribute(shown, "title", title);
      // The next step may be due long after the end of the scale.
      const [x, width] = [percent(left), length == null ? "" : percent(Math.min(length, Math.max(0, span - left)))];
      if (shown.style.left !== x) shown.style.left = x;
      if (shown.style.width !== width) shown.style.width = width;
    });
    const total = bars.reduce((sum, { length }) => sum + length, 0);
    const loaded = this.entries.filter((entry) => entry.event === "tftp_completed" && events.includes(entry.event) && seconds(entry.time) >= begin - 0.5);
    const bytes = loaded.reduce((sum, entry) => sum + entry.detail.bytes, 0);
    const precise = total < 10 ? `${total.toFixed(1)} s` : duration(total);
    setText(time, [bars.length ? precise : marks.length ? "seen" : "", bytes ? size(bytes) : ""].filter(Boolean).join(" · "));
    lane.classList.toggle("idle", !bars.length && !marks.length && !ghost.length);
  }

  // The ledgers

  drawLedgers() {
    find("#ledger").hidden = !this.ledgers.length;
    const newest = [...this.ledgers].reverse();
    keyed(find("#ledgers"), newest, ({ begin }) => begin, (ledger) => this.makeLedger(ledger, ledger === newest[0]), (shown, ledger) => this.fillLedger(shown, ledger));
  }

  makeLedger(ledger, isOpen) {
    const heads = ["Stage", "Start", "Time", "Share", "Note"].map((title) => element("th", { scope: "col", class: title === "Time" ? "number" : null }, title));
    const table = element("table", { class: "plain" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody"));
    return element("details", { open: isOpen }, element("summary"), table, element("ul", { class: "advice" }));
  }

  fillLedger(shown, ledger) {
    const [summary, table, advice] = shown.children;
    setText(summary, `Boot of ${exactTime(seconds(ledger.begin))}: ${ledger.outcome ? `${ledger.outcome.replaceAll("_", " ")} after` : "goes on since"} ${duration(ledger.milliseconds / 1000)}`);
    const make = () => element("tr", {}, element("th", { scope: "row" }), element("td"), element("td", { class: "number" }), element("td", { class: "share" }, element("i")), element("td", { class: "wrap" }));
    keyed(table.tBodies[0], ledger.stages, ({ start, stage }) => `${start} ${stage}`, make, (line, stage) => {
      const [name, start, time, share, note] = line.children;
      setText(name, STAGES[stage.stage]);
      setText(start, new Date(stage.start).toLocaleTimeString());
      setText(time, `${(stage.milliseconds / 1000).toFixed(1)} s`);
      share.firstChild.style.width = `${(100 * stage.milliseconds) / Math.max(1, ledger.milliseconds)}%`;
      setText(note, stage.note ?? "");
    });
    keyed(advice, ledger.advice, (text) => text, (text) => element("li", {}, `To save: ${text}`));
  }

  // The history

  makeHistory() {
    const make = ([kind, title]) => element("button", { type: "button", onclick: () => this.showKind(kind) }, title);
    keyed(find("#history-kind"), HISTORY, ([kind]) => kind || "all", make);
    this.showKind(this.kind, false);
  }

  showKind(kind, isChosen = true) {
    this.kind = kind;
    if (isChosen) history.replaceState(null, "", kind ? `?show=${kind}` : location.pathname);
    for (const button of find("#history-kind").children) setAttribute(button, "aria-pressed", String(button.dataset.key === (kind || "all")));
    this.drawHistory();
  }

  drawHistory() {
    const events = HISTORY.find(([kind]) => kind === this.kind)?.[2];
    const shown = this.entries.filter(({ event }) => !events || events.includes(event)).reverse();
    keyed(find("#history"), shown, entryKey, entryLine(false), updateEntry);
    find("#history").dataset.empty = shown.length ? "" : "Nothing happened yet.";
  }

  // Rehearsal and object

  async rehearse(button) {
    const box = find("#rehearsal");
    button.disabled = true;
    try {
      const { boots } = await request("GET", `${hostPath(this.id)}/rehearsal`);
      box.replaceChildren(...boots.map((boot) => this.rehearsedBoot(boot)));
    } catch (refusal) {
      box.replaceChildren(element("p", { class: "error", role: "alert" }, refusal.message));
    }
    button.disabled = false;
  }

  rehearsedBoot(boot) {
    const step = ({ step: name, isReached, decision, dhcp, ...parts }) => {
      const content = parts.script?.text ?? parts.config?.text ?? null;
      const more = { ...(dhcp?.reply ? { reply: { ...dhcp.reply, hex: undefined } } : {}), ...parts };
      return element(
        "li",
        { class: isReached ? "" : "unreached" },
        element("b", {}, name.replaceAll("_", " ")),
        element("span", { class: "what" }, isReached ? decision.message : `not reached: ${decision.message}`),
        element("details", {}, element("summary", {}, "What is sent"), element("pre", { tabindex: 0 }, content ?? JSON.stringify(more, null, 2))),
      );
    };
    return element("div", { class: "rehearsed" }, element("h3", {}, boot.architecture), ...boot.assumptions.map((text) => element("p", { class: "hint" }, `Assumed: ${text}`)), element("ol", { class: "log steps" }, ...boot.steps.map(step)));
  }

  showObjectSoon() {
    clearTimeout(this.objectTimer);
    if (find("#object").open) this.objectTimer = setTimeout(() => this.showObject(), 500);
  }

  async showObject() {
    const box = find("#object");
    if (!box.open) return;
    const { namespace, name } = split(this.id);
    const [row, content] = [this.row, box.lastElementChild];
    let text;
    try {
      text = JSON.stringify(await request("GET", hostPath(this.id)), null, 2);
    } catch (refusal) {
      text = refusal.message;
    }
    const spec = JSON.stringify({ spec: { image: row?.image, bootConfigRef: row?.config ?? "" } });
    const commands = [
      ["Read it", `kubectl -n ${namespace} get baremetalhost ${name} -o yaml`, `bootlatch get host ${name} -o yaml`],
      ["Boot this ISO with this config", `kubectl -n ${namespace} patch baremetalhost ${name} --type merge -p '${spec}'`, `bootlatch host assign ${name} --image ${row?.image}${row?.config ? ` --config ${row.config}` : " --no-config"}`],
      ["Why it does not boot", `kubectl -n ${namespace} get baremetalhost ${name} -o jsonpath='{.status.stall}'`, `bootlatch host why ${name}`],
      ["What it would get", "", `bootlatch rehearse ${name}`],
    ];
    if (!content.firstChild) content.append(element("dl", { class: "commands" }), element("pre", { tabindex: 0, "aria-label": "Object as JSON" }));
    const make = ([title]) => element("div", {}, element("dt", {}, title), element("dd"));
    keyed(content.firstChild, commands, ([title]) => title, make, (part, [, ...lines]) => {
      keyed(part.lastChild, lines.filter(Boolean), (line) => line, (line) => element("code", {}, line));
    });
    setText(content.lastChild, text);
  }
}

const powerText = (row) => (row.power ? (row.target && row.target !== row.power ? `${row.power} → ${row.target}` : row.power) : "");

/** Returns the actions that the remedy of a diagnosis speaks of. */
function advisedActions(row) {
  const wanted = {
    held: ["Approve …", "Release to its disk"],
    host_ignored: ["Approve …"],
    boots_used_up: ["Reinstall …", "Release to its disk"],
    installer_failed: ["Reinstall …"],
    installer_silent: ["Reinstall …", "Restart"],
    disk_not_bootable: ["Reinstall …"],
    no_network_boot: ["Restart"],
  }[row.stall?.reason] ?? [];
  const all = [...actionsOf(row), ["Approve …", () => approve(row)]];
  return wanted.map((title) => all.find(([one]) => one === title)).filter(Boolean);
}

// ---- ISOs ----------------------------------------------------------------------------------------------------------

/** An ISO that is being sent. A broken transfer goes on where the server has it. */
class Upload {
  constructor(file, { name, sha256, description }, changed) {
    [this.file, this.name, this.changed] = [file, name, changed];
    this.key = uploadKey(file, name);
    this.query = { name, ...(sha256 ? { sha256: sha256.trim() } : {}), ...(description ? { description } : {}) };
    [this.sent, this.state, this.message, this.tries] = [0, "sending", "", 0];
    this.start();
  }

  async start() {
    this.state = "sending";
    try {
      const { offset } = await request("GET", `/api/v1/uploads/${this.key}`);
      this.sent = offset;
      await this.send(offset);
      this.state = "done";
    } catch (problem) {
      if (this.state === "cancelled") return;
      // A connection that broke may come back, and the server may still wait on it; what it refuses stays refused.
      const isBroken = problem.code === 0 || (problem.code === 409 && problem.message.includes("in progress"));
      if (isBroken && this.tries < 8) {
        this.tries += 1;
        this.state = "waiting";
        setTimeout(() => this.state === "waiting" && this.start(), 1000 * 2 ** Math.min(this.tries, 5));
      } else {
        this.state = "failed";
        this.message = problem.message;
      }
    }
    this.changed(this);
  }

  send(offset) {
    const query = new URLSearchParams({ ...this.query, resume: this.key, offset, length: this.file.size });
    const sender = new XMLHttpRequest();
    this.sender = sender;
    return new Promise((resolve, reject) => {
      sender.open("POST", `/api/v1/iscsi-cdroms/upload?${query}`);
      sender.setRequestHeader("Content-Type", "application/octet-stream");
      sender.upload.onprogress = ({ loaded }) => {
        this.sent = offset + loaded;
        this.tries = 0;
        this.changed(this);
      };
      sender.onload = () => {
        if (sender.status === 201) return resolve();
        let reply = {};
        try {
          reply = JSON.parse(sender.responseText);
        } catch {
          // The status line says it.
        }
        reject(new Refusal(reply.details?.causes?.[0]?.message ?? reply.message ?? `${sender.status} ${sender.statusText}`, "", sender.status));
      };
      sender.onerror = () => reject(new Refusal("The connection broke.", "", 0));
      sender.onabort = () => reject(new Refusal("Cancelled.", "", 1));
      sender.send(this.file.slice(offset));
    });
  }

  cancel() {
    const wasActive = this.state !== "failed";
    this.state = "cancelled";
    this.sender?.abort();
    if (wasActive || this.sent) request("DELETE", `/api/v1/uploads/${this.key}`).catch(() => {});
    this.changed(this);
  }
}

/** Returns a key that is the same for the same file: an upload goes on when the file is dropped again. */
function uploadKey(file, name) {
  const text = `${name} ${file.name} ${file.size} ${file.lastModified}`;
  return [0, 1, 2, 3]
    .map((seed) => {
      let hash = 2166136261 ^ (seed * 16777619);
      for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
      return (hash >>> 0).toString(16).padStart(8, "0");
    })
    .join("");
}

const nameOf = (fileName) =>
  fileName.toLowerCase().replace(/\.(iso|img)$/, "").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63) || "iso";

class IsoPage {
  constructor() {
    this.uploads = [];
    rowsQuery = "";
    onRows((change) => (!change || change.images || change.goneImages || change.hosts || change.goneHosts) && this.draw());
    if (!isAdmin) return;
    find("#add").hidden = false;
    find("#file").addEventListener("change", (event) => {
      this.offer([...event.target.files]);
      event.target.value = "";
    });
    this.listenToDrops();
    addEventListener("beforeunload", (event) => this.uploads.some(({ state }) => state === "sending") && event.preventDefault());
    request("GET", "/api/v1/uploads").then(({ items }) => this.showUnfinished(items), () => {});
  }

  listenToDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    addEventListener("dragleave", (event) => !event.relatedTarget && document.body.classList.remove("dropping"));
    addEventListener("drop", (event) => {
      document.body.classList.remove("dropping");
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.offer([...event.dataTransfer.files]);
    });
  }

  /** Asks for the name of each file, one after another, and sends it. */
  offer(files) {
    const [file, ...others] = files;
    if (!file) return;
    const name = element("input", { name: "name", required: true, value: nameOf(file.name), pattern: "[a-z0-9]([a-z0-9.\\-]*[a-z0-9])?", autocomplete: "off" });
    const sum = element("input", { name: "sha256", autocomplete: "off", spellcheck: "false", placeholder: "optional: 64 hexadecimal digits" });
    const description = element("input", { name: "description", autocomplete: "off", placeholder: "optional" });
    openForm({
      title: `Add ${file.name}`,
      intro: `${size(file.size)}. With a SHA-256 the server refuses a damaged file.`,
      fields: [labelled("Name", name), labelled("SHA-256", sum), labelled("Description", description)],
      action: "Upload",
      submit: async (values) => {
        if (rows.images.has(values.name)) throw new Refusal(`${values.name} exists already: choose another name, or delete it first.`);
        this.uploads.push(new Upload(file, values, () => this.drawUploads()));
        this.drawUploads();
        if (others.length) setTimeout(() => this.offer(others));
      },
    });
  }

  showUnfinished(items) {
    for (const { key, name, offset } of items) {
      if (this.uploads.some((upload) => upload.key === key)) continue;
      const cancel = () => {
        request("DELETE", `/api/v1/uploads/${key}`).catch(() => {});
        this.uploads = this.uploads.filter((upload) => upload.key !== key);
        this.drawUploads();
      };
      this.uploads.push({ key, name: name ?? key, sent: offset, state: "unfinished", message: "add the same file again to continue", cancel });
    }
    this.drawUploads();
  }

  drawUploads() {
    const shown = this.uploads.filter(({ state }) => state !== "cancelled" && state !== "done");
    const latest = new Map(shown.map((upload) => [upload.key, upload]));
    const make = ({ key }) =>
      element(
        "li",
        {},
        element("b"),
        element("progress", { max: 1 }),
        element("span", { class: "hint" }),
        element("button", { type: "button", class: "quiet", onclick: () => this.uploads.findLast((one) => one.key === key)?.cancel() }, "Cancel"),
      );
    keyed(find("#uploads"), [...latest.values()], ({ key }) => key, make, (line, upload) => {
      const [name, bar, text, button] = line.children;
      const total = upload.file?.size;
      setText(name, upload.name);
      setAttribute(bar, "aria-label", `Upload of ${upload.name}`);
      bar.hidden = !total;
      if (total) bar.value = upload.sent / total;
      const progress = total ? `${size(upload.sent)} of ${size(total)}` : `${size(upload.sent)} arrived`;
      const states = { sending: upload.sent === total ? "checking" : progress, waiting: `${progress}, waiting for the connection`, failed: upload.message, unfinished: `${progress}: ${upload.message}` };
      setText(text, states[upload.state]);
      text.classList.toggle("error", upload.state === "failed");
      setText(button, upload.state === "failed" ? "Dismiss" : "Cancel");
    });
  }

  draw() {
    const used = new Map();
    for (const { image } of rows.hosts.values()) used.set(image, (used.get(image) ?? 0) + 1);
    const images = sortedIds(rows.images).map((id) => rows.images.get(id));
    find("#empty").hidden = images.length > 0;
    keyed(find("#iso-rows"), images, ({ id }) => id, (row) => this.makeRow(row), (line, row) => this.fillRow(line, row, used.get(row.id) ?? 0));
    this.drawUploads();
  }

  makeRow({ id }) {
    const menu = (event) => openMenu(event.currentTarget, this.actions(rows.images.get(id)));
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, id),
      element("td", { class: "wrap" }),
      element("td"),
      element("td", { class: "number" }),
      element("td", { class: "wrap" }),
      element("td", { class: "number" }, element("a")),
      element("td", { class: "wrap" }),
      element("td", { class: "number" }, isAdmin ? element("button", { type: "button", class: "quiet", "aria-haspopup": "menu", "aria-expanded": "false", "aria-label": `Actions for ${id}`, onclick: menu }, "⋯") : ""),
    );
  }

  fillRow(line, row, count) {
    const [, recognised, boots, length, configs, hosts, state] = line.children;
    setText(recognised, row.distribution || row.volume || row.file);
    setAttribute(recognised, "title", [row.file, row.sha256 && `SHA-256 ${row.sha256}`].filter(Boolean).join("\n"));
    setText(boots, row.boots?.join(", ") ?? "");
    setText(length, row.size == null ? "" : size(row.size));
    setText(configs, row.configs?.join(", ") ?? "");
    setText(hosts.firstChild, String(count));
    setAttribute(hosts.firstChild, "href", count ? `/ui/hosts?q=${encodeURIComponent(row.id)}` : null);
    setText(state, [row.message || row.phase, ...(row.warnings ?? [])].join(" · "));
    setAttribute(state, "data-state", row.phase === "Broken" ? "bad" : row.warnings ? "warn" : "good");
  }

  actions(row) {
    const found = [["Configs …", () => this.chooseConfigs(row)]];
    if (row.sha256) found.push(["Copy the SHA-256", () => navigator.clipboard?.writeText(row.sha256).then(() => toast("SHA-256 copied"))]);
    found.push(["Delete …", () => this.confirmDelete(row), "danger"]);
    return found;
  }

  chooseConfigs(row) {
    const options = sortedIds(rows.configs);
    const boxes = options.map((id) => element("label", { class: "check" }, element("input", { type: "checkbox", value: id, ...(row.configs?.includes(id) ? { checked: true } : {}) }), id));
    openForm({
      title: `Configs of ${row.id}`,
      intro: options.length ? "The configs that a host may combine with this ISO." : "There is no config yet.",
      fields: boxes,
      action: "Save",
      submit: () => patch(`/api/v1/iscsi-cdroms/${row.id}`, { spec: { bootConfigs: boxes.map((box) => box.firstChild).filter(({ checked }) => checked).map(({ value }) => value) } }),
    });
  }

  confirmDelete(row) {
    openForm({
      title: `Delete ${row.id}?`,
      intro: "A file that was uploaded is deleted with it.",
      fields: [],
      action: "Delete",
      submit: () => request("DELETE", `/api/v1/iscsi-cdroms/${row.id}`),
    });
  }
}

// ---- Configs -------------------------------------------------------------------------------------------------------

const MAIN_FILES = { ignition: "config.ign", "cloud-init": "user-data", kickstart: "ks.cfg", preseed: "preseed.cfg", script: "script" };

/** The list of configs, and an editor whose content the server checks while it is typed. */
class ConfigPage {
  constructor() {
    this.path = "/api/v1/bootconfigs";
    onRows((change) => this.update(change));
    find("#new").hidden = !isAdmin;
    find("#new").addEventListener("click", () => this.create());
    find("#save").addEventListener("click", () => this.save());
    find("#delete").addEventListener("click", () => this.confirmDelete());
    for (const button of ["#save", "#delete"]) find(button).hidden = !isAdmin;
    const text = find("#text");
    text.readOnly = !isAdmin;
    text.addEventListener("input", () => this.edited());
    text.addEventListener("keydown", (event) => {
      if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.save();
      }
    });
    addEventListener("beforeunload", (event) => this.isChanged && event.preventDefault());
    addEventListener("hashchange", () => this.open(location.hash.slice(1)));
  }

  update(change) {
    const names = sortedIds(rows.configs);
    find("#none").hidden = names.length > 0;
    const make = (id) => element("li", {}, element("a", { href: `#${id}` }, element("b", {}, id), element("span", { class: "hint" })));
    keyed(find("#list"), names, (id) => id, make, (item, id) => {
      const row = rows.configs.get(id);
      setText(item.firstChild.lastChild, [row.format, row.confidential ? "confidential" : ""].filter(Boolean).join(", "));
      setAttribute(item.firstChild, "aria-current", this.object?.metadata.name === id ? "true" : null);
    });
    if (!change) {
      if (!this.object) this.open(location.hash.slice(1) || names[0]);
    } else if (this.object) {
      const name = this.object.metadata.name;
      if (change.goneConfigs?.includes(name) && !this.isNew) this.close();
      // Half-typed text stays: the save reports the conflict.
      else if (change.configs?.some(({ id }) => id === name) && !this.isChanged && !this.isSaving) this.open(name, this.file);
      this.showAffected();
    }
  }

  async open(name, file) {
    if (!name || (this.isChanged && !confirm("Discard what you changed?"))) return;
    try {
      const object = await request("GET", `${this.path}/${name}`);
      const isSame = this.object?.metadata.name === name && JSON.stringify(this.object.spec) === JSON.stringify(object.spec);
      // What the server said of the content still holds.
      if (isSame && !this.isChanged) this.object = object;
      else this.show(object, file);
    } catch (refusal) {
      this.close();
      toast(refusal.message, { isError: true });
    }
  }

  show(object, file, isNew = false) {
    [this.object, this.isNew, this.isChanged] = [object, isNew, isNew];
    const { name } = object.metadata;
    if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
    find("#editor").hidden = false;
    find("#delete").disabled = isNew;
    setText(find("#config-title"), name);
    setText(find("#config-facts"), [object.spec.format, object.spec.confidential ? "confidential: its content is not shown" : ""].filter(Boolean).join(", "));
    const files = Object.keys(object.spec.data ?? {});
    this.choose(files.includes(file) ? file : (files.find((one) => one === MAIN_FILES[object.spec.format]) ?? files[0]));
    this.setVerdict("", "");
    this.showAffected();
    for (const link of findAll("#list a")) setAttribute(link, "aria-current", link.hash === `#${name}` ? "true" : null);
    find("#save").disabled = !isNew;
    if (isNew) this.check();
  }

  choose(file) {
    this.file = file;
    const files = Object.keys(this.object.spec.data);
    keyed(find("#files"), files, (one) => one, (one) => element("button", { type: "button", onclick: () => this.choose(one) }, one), (button, one) => setAttribute(button, "aria-pressed", String(one === file)));
    const text = find("#text");
    if (text.value !== this.object.spec.data[file]) text.value = this.object.spec.data[file] ?? "";
  }

  close() {
    [this.object, this.isChanged] = [null, false];
    find("#editor").hidden = true;
  }

  edited() {
    this.isChanged = true;
    this.object.spec.data[this.file] = find("#text").value;
    find("#save").disabled = false;
    this.setVerdict("checking", "checking …");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), 300);
  }

  write(query = "") {
    const path = this.isNew ? this.path : `${this.path}/${this.object.metadata.name}`;
    return request(this.isNew ? "POST" : "PUT", path + query, this.object);
  }

  /** Asks the server whether it would take the content. Only the newest answer counts. */
  async check() {
    const checked = (this.checks = (this.checks ?? 0) + 1);
    try {
      const { status } = await this.write("?dryRun=All");
      if (checked !== this.checks) return;
      const warnings = status?.warnings ?? [];
      this.setVerdict(warnings.length ? "warn" : "good", warnings.join(" · ") || "valid");
    } catch (refusal) {
      if (checked === this.checks) this.setVerdict("bad", refusal.message);
    }
  }

  setVerdict(state, message) {
    const shown = find("#verdict");
    shown.dataset.state = state;
    setAttribute(find("#text"), "aria-invalid", state === "bad" ? "true" : null);
    const place = state === "bad" ? /line (\d+)(?:,? column (\d+))?/.exec(message) : null;
    shown.replaceChildren(message);
    if (!place) return;
    const [line, column] = [Number(place[1]), Number(place[2] ?? 1)];
    shown.append(" ", element("button", { type: "button", class: "quiet", onclick: () => this.goTo(line, column) }, `Go to line ${line}`));
  }

  goTo(line, column) {
    const text = find("#text");
    const lines = text.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + Math.max(0, column - 1);
    text.focus();
    text.setSelectionRange(start, start + 1);
    text.scrollTop = (line - 6) * parseFloat(getComputedStyle(text).lineHeight);
  }

  async save() {
    if (!this.object || !isAdmin) return;
    this.isSaving = true;
    find("#save").disabled = true;
    try {
      this.object = await this.write();
      [this.isNew, this.isChanged] = [false, false];
      find("#delete").disabled = false;
      this.setVerdict("good", "saved");
    } catch (refusal) {
      this.setVerdict("bad", refusal.message);
      find("#save").disabled = false;
    }
    this.isSaving = false;
  }

  /** Shows whom a change of the config concerns. */
  showAffected() {
    const name = this.object.metadata.name;
    const hosts = [...rows.hosts.values()].filter(({ config }) => config === name);
    const images = [...rows.images.values()].filter(({ configs }) => configs?.includes(name)).map(({ id }) => id);
    const parts = [];
    if (images.length) parts.push(`Offered by ${images.join(", ")}.`);
    parts.push(hosts.length ? `A change concerns ${hosts.length} ${hosts.length === 1 ? "host" : "hosts"} at the next install: ${names(hosts)}.` : "No host uses it.");
    setText(find("#affects"), parts.join(" "));
  }

  create() {
    const name = element("input", { name: "name", required: true, pattern: "[a-z0-9]([a-z0-9.\\-]*[a-z0-9])?", autocomplete: "off" });
    const format = element("select", { name: "format" });
    fillOptions(format, Object.keys(MAIN_FILES).map((one) => [one, one]), "ignition");
    openForm({
      title: "New config",
      fields: [labelled("Name", name), labelled("Format", format)],
      action: "Write it",
      submit: async (values) => {
        if (rows.configs.has(values.name)) throw new Refusal(`${values.name} exists already.`);
        this.show({ apiVersion: "v1", kind: "BootConfig", metadata: { name: values.name }, spec: { format: values.format, data: { [MAIN_FILES[values.format]]: "" } } }, undefined, true);
        setTimeout(() => find("#text").focus());
      },
    });
  }

  confirmDelete() {
    const { name } = this.object.metadata;
    openForm({
      title: `Delete ${name}?`,
      intro: "A config that a host or an ISO names is not deleted.",
      fields: [],
      action: "Delete",
      submit: () => request("DELETE", `${this.path}/${name}`),
    });
  }
}

// ---- Activity and network ------------------------------------------------------------------------------------------

/** Number of entries of the timeline that a page keeps. */
const MAX_ENTRIES = 2000;
/** Number of entries that are shown at a time. */
const SHOWN_ENTRIES = 300;

class ActivityPage {
  constructor() {
    this.entries = new Map();
    const query = new URLSearchParams(location.search);
    [this.query, this.event] = [query.get("q") ?? "", query.get("event") ?? ""];
    find("#search").value = this.query;
    rowsQuery = "?host=";
    streamQuery = "&activity";
    streamListeners = { activity: (entries) => this.add(entries) };
    const filter = (name) => (event) => {
      this[name] = event.target.value;
      const pairs = Object.entries({ q: this.query, event: this.event }).filter(([, value]) => value);
      const text = new URLSearchParams(pairs).toString();
      history.replaceState(null, "", text ? `?${text}` : location.pathname);
      this.draw();
    };
    find("#search").addEventListener("input", filter("query"));
    find("#event").addEventListener("change", filter("event"));
  }

  add(entries) {
    for (const entry of entries) this.entries.set(entryKey(entry), entry);
    const keys = [...this.entries.keys()].sort();
    for (const key of keys.slice(0, Math.max(0, keys.length - MAX_ENTRIES))) this.entries.delete(key);
    this.draw();
  }

  draw() {
    const all = [...this.entries.values()].sort((a, b) => (a.time < b.time ? 1 : -1));
    const events = [...new Set(all.map(({ event }) => event))].sort();
    if (document.activeElement !== find("#event")) {
      fillOptions(find("#event"), [["", "All events"], ...[...new Set([...events, ...(this.event ? [this.event] : [])])].map((event) => [event, event.replaceAll("_", " ")])], this.event);
    }
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (entry) => {
      if (this.event && entry.event !== this.event) return false;
      const text = `${entry.host ?? "server"} ${entry.mac ?? ""} ${entry.event} ${describe(entry)}`.toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const found = all.filter(matches);
    keyed(find("#activity"), found.slice(0, SHOWN_ENTRIES), entryKey, entryLine(true), updateEntry);
    const shown = Math.min(found.length, SHOWN_ENTRIES);
    setText(find("#count"), shown < found.length ? `newest ${shown} of ${found.length} entries` : `${shown} entries`);
  }
}

class NetworkPage {
  constructor() {
    rowsQuery = "?host=";
    find("#refresh").addEventListener("click", () => this.show());
    this.show();
  }

  async show() {
    const box = find("#interfaces");
    try {
      const { items } = await request("GET", "/api/v1/interfaces");
      const heard = serverNow();
      if (!items.length) return box.replaceChildren(element("p", { class: "panel hint" }, "DHCP is off: machines are told by another server where to boot from."));
      box.replaceChildren(...items.map((one) => this.panel(one, heard)), await this.counters());
    } catch (refusal) {
      box.replaceChildren(element("p", { class: "error", role: "alert" }, refusal.message));
    }
  }

  /** Returns what was dropped and refused since the server started, by the counters of the metrics. */
  async counters() {
    const text = await (await fetch("/metrics")).text();
    const lines = [...text.matchAll(/^bootlatch_(packets_dropped|requests_refused)_total\{(.*)\} (\d+)/gm)].filter(([, , , count]) => count !== "0");
    const label = (labels, name) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] ?? "";
    const found = lines
      .map(([, what, labels, count]) => ({ what: what === "packets_dropped" ? "dropped" : "refused", protocol: label(labels, "protocol"), reason: label(labels, "reason"), count: Number(count) }))
      .sort((a, b) => b.count - a.count);
    const heads = ["Count", "What", "Protocol", "Reason"].map((title) => element("th", { scope: "col", class: title === "Count" ? "number" : null }, title));
    const line = ({ what, protocol, reason, count }) =>
      element("tr", {}, element("td", { class: "number" }, String(count)), element("td", {}, what), element("td", {}, protocol), element("td", { class: "wrap" }, reason.replaceAll("_", " ")));
    return element(
      "section",
      { class: "panel", "aria-label": "Dropped and refused" },
      element("h2", {}, "Dropped and refused since the start"),
      found.length
        ? element("table", { class: "plain" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...found.map(line)))
        : element("p", { class: "hint" }, "Nothing was dropped, and no request was refused."),
    );
  }

  panel({ name, address, mode, standsDown, servers }, heard) {
    const modes = { proxy: "ProxyDHCP: names boot files, another server gives addresses", server: "DHCP server: gives addresses and names boot files" };
    const heads = ["Server", "Role", "Gives addresses", "Last heard"].map((title) => element("th", { scope: "col" }, title));
    const roles = { boot_server: "names boot files", address_server: "only addresses" };
    const lines = servers.map((one) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, element("code", {}, one.address), one.isBootlatch ? " (bootlatch)" : ""),
        element("td", { "data-state": one.role === "boot_server" ? "warn" : null }, roles[one.role] ?? one.role),
        element("td", {}, one.givesAddresses ? "yes" : "no"),
        element("td", {}, timeElement(heard - one.secondsAgo)),
      ),
    );
    return element(
      "section",
      { class: "panel", "aria-label": `Interface ${name}` },
      element("h2", {}, `${name} · `, element("code", {}, address)),
      element("p", {}, modes[mode] ?? mode),
      standsDown ? element("p", { "data-state": "warn" }, "Machines are left to the other boot server here.") : null,
      lines.length
        ? element("table", { class: "plain" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...lines))
        : element("p", { class: "hint" }, "No other DHCP or boot server was heard lately."),
    );
  }
}

// ---- Settings ------------------------------------------------------------------------------------------------------

async function showSettings() {
  rowsQuery = "?host=";
  const query = new URLSearchParams(location.search);
  const [search, changed] = [find("#search"), find("#changed")];
  [search.value, changed.checked] = [query.get("q") ?? "", query.has("set")];
  let items = [];
  const draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = ({ key, value, origin }) => (!changed.checked || origin !== "default") && words.every((word) => `${key} ${value} ${origin}`.toLowerCase().includes(word));
    const found = items.filter(matches);
    const make = ({ key, value, origin }) =>
      element("tr", { class: origin === "default" ? "" : "set" }, element("th", { scope: "row" }, element("code", {}, key)), element("td", { class: "wrap" }, element("code", {}, value)), element("td", { class: "wrap" }, origin));
    keyed(find("#setting-rows"), found, ({ key }) => key, make);
    setText(find("#count"), found.length === items.length ? `${items.length} settings` : `${found.length} of ${items.length} settings`);
  };
  const filter = () => {
    const pairs = [["q", search.value], ["set", changed.checked ? "yes" : ""]].filter(([, value]) => value);
    const text = new URLSearchParams(pairs).toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
    draw();
  };
  search.addEventListener("input", filter);
  changed.addEventListener("change", filter);
  try {
    ({ items } = await request("GET", "/api/v1/settings"));
    draw();
  } catch (refusal) {
    toast(refusal.message, { isError: true });
  }
}

// ---- Theme, keyboard, start ----------------------------------------------------------------------------------------

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function switchTheme() {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = isDark ? "light" : "dark";
  applyTheme(theme);
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // The browser keeps nothing: the choice is for this page.
  }
}

try {
  applyTheme(localStorage.getItem("theme"));
} catch {
  // As above.
}
find("#theme")?.addEventListener("click", switchTheme);
find("#help-button")?.addEventListener("click", () => find("#help").showModal());

/** The page's own keys. */
let pageKeys = () => false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  const target = event.target;
  if (event.key === "Escape" && target.id === "search") return target.blur();
  if (target.matches?.("input:not([type=checkbox]), textarea, select")) return;
  const search = find("#search");
  if (event.key === "/" && search) search.focus();
  else if (event.key === "?") find("#help")?.showModal();
  else if (!pageKeys(event.key)) return;
  event.preventDefault();
});

const pages = {
  hosts() {
    const table = new HostTable();
    pageKeys = (key) => table.key(key);
  },
  host() {
    const shown = new HostPage();
    pageKeys = (key) => {
      if (!isAdmin || !shown.row) return false;
      if (key === "a") approve(shown.row);
      else if (key === "r" && isImage(shown.row.image)) confirmReinstall([shown.row]);
      else return false;
      return true;
    };
  },
  isos: () => new IsoPage(),
  configs: () => new ConfigPage(),
  activity: () => new ActivityPage(),
  network: () => new NetworkPage(),
  settings: () => showSettings(),
};

if (pages[page]) {
  pages[page]();
  load();
}
