// The page of the network: interfaces, leases, relays, and what was dropped.

import { openForm } from "./dialogs.js";
import { element, find, isAdmin, keyed, setAttribute, setText } from "./elements.js";
import "./frame.js";
import { hostPage, request, split } from "./requests.js";
import { load, setFeed } from "./rows.js";
import { seconds, serverNow, setTime } from "./times.js";

/** Number of leases that are elements; a search finds the others. */
const SHOWN_LEASES = 200;

const MODES = {
  proxy: "ProxyDHCP: names boot files, another server gives addresses",
  server: "DHCP server: gives addresses and names boot files",
};
const ROLES = { boot_server: "names boot files", address_server: "only addresses" };
const REASONS = {
  named: "listed in dhcp.relays",
  own_address: "sends from its own address",
  machine_address: "its address is a machine's",
  other_source: "sends from another address: list it in dhcp.relays",
};

/** Makes a row of a table whose first cell is its head. `numbers` are the places of cells with numbers. */
function line(count, numbers = []) {
  const cells = Array.from({ length: count }, (_, at) =>
    at ? element("td", { class: numbers.includes(at) ? "number" : null }) : element("th", { scope: "row" }),
  );
  return element("tr", {}, ...cells);
}

/** Shows a time in a cell. */
function fillTime(cell, time) {
  if (!cell.firstChild) cell.append(element("time"));
  setTime(cell.firstChild, seconds(time));
}

const rank = (address) => address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);

class NetworkPage {
  constructor() {
    this.leases = new Map();
    setFeed({
      rows: "?host=",
      stream: "&network",
      listeners: { network: (news) => this.showHeard(news), leases: (changed) => this.takeLeases(changed) },
    });
    const query = new URLSearchParams(location.search);
    [find("#search").value, find("#state").value] = [query.get("q") ?? "", query.get("state") ?? ""];
    for (const [id, event] of [
      ["#search", "input"],
      ["#state", "change"],
    ]) {
      find(id).addEventListener(event, () => this.changeFilter());
    }
    // Leases end without a word.
    setInterval(() => !document.hidden && this.leases.size && this.drawLeases(), 10000);
  }

  showHeard({ interfaces, relays, drops }) {
    find("#no-dhcp").hidden = interfaces.length > 0;
    keyed(
      find("#interfaces"),
      interfaces,
      ({ name }) => name,
      (one) => this.makeInterface(one),
      (panel, one) => this.fillInterface(panel, one),
    );
    find("#relays").hidden = !relays.length;
    keyed(
      find("#relay-rows"),
      relays,
      ({ address }) => address,
      () => line(7, [4, 5]),
      (row, relay) => {
        const [address, source, name, state, messages, refused, last] = row.children;
        setText(address, relay.address);
        setText(source, relay.source);
        setText(name, relay.interface);
        setText(state, `${relay.isBelieved ? "believed" : "not believed"}: ${REASONS[relay.reason] ?? relay.reason}`);
        setAttribute(state, "data-state", relay.isBelieved ? null : "warn");
        setText(messages, String(relay.messages));
        setText(refused, String(relay.refused));
        fillTime(last, relay.lastHeardTime);
      },
    );
    find("#no-drops").hidden = drops.length > 0;
    find("#drop-table").hidden = !drops.length;
    const key = ({ outcome, protocol, reason }) => `${outcome} ${protocol} ${reason}`;
    keyed(
      find("#drop-rows"),
      drops,
      key,
      () => line(4, [0]),
      (row, drop) => {
        const texts = [String(drop.count), drop.outcome, drop.protocol, drop.reason.replaceAll("_", " ")];
        texts.forEach((text, at) => setText(row.children[at], text));
      },
    );
  }

  makeInterface({ name }) {
    const heads = ["Server", "Role", "Gives addresses", "Last heard"].map((title) =>
      element("th", { scope: "col" }, title),
    );
    const table = element(
      "table",
      { class: "plain" },
      element("thead", {}, element("tr", {}, ...heads)),
      element("tbody"),
    );
    return element(
      "section",
      { class: "panel", "aria-label": `Interface ${name}`, tabindex: 0 },
      element("h2", {}, `${name} · `, element("code")),
      element("p"),
      element("p", { "data-state": "warn" }, "Machines are left to the other boot server here."),
      table,
      element("p", { class: "hint" }, "No other DHCP or boot server was heard lately."),
    );
  }

  fillInterface(panel, { address, mode, standsDown, servers }) {
    const [title, role, down, table, none] = panel.children;
    setText(title.lastChild, address);
    setText(role, MODES[mode] ?? mode);
    [down.hidden, table.hidden, none.hidden] = [!standsDown, !servers.length, servers.length > 0];
    keyed(
      table.tBodies[0],
      servers,
      (one) => one.address,
      () => line(4),
      (row, one) => {
        const [name, what, gives, last] = row.children;
        setText(name, one.isBootlatch ? `${one.address} (bootlatch)` : one.address);
        setText(what, ROLES[one.role] ?? one.role);
        setAttribute(what, "data-state", one.role === "boot_server" ? "warn" : null);
        setText(gives, one.givesAddresses ? "yes" : "no");
        fillTime(last, one.lastHeardTime);
      },
    );
  }

  // Leases

  takeLeases(changed) {
    for (const lease of changed)
      this.leases.set(lease.address, { ...lease, rank: rank(lease.address), end: seconds(lease.until) });
    this.drawLeases();
  }

  changeFilter() {
    const pairs = [
      ["q", find("#search").value],
      ["state", find("#state").value],
    ].filter(([, value]) => value);
    const text = new URLSearchParams(pairs).toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
    this.drawLeases();
  }

  /** Returns the state of a lease now: the server reports it when it changes, and not when it ends. */
  state({ state, end }) {
    return end <= serverNow() && (state === "bound" || state === "declined") ? "expired" : state;
  }

  drawLeases() {
    const words = find("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = find("#state").value;
    const found = [...this.leases.values()].filter((lease) => {
      if (wanted && this.state(lease) !== wanted) return false;
      const text = `${lease.address} ${lease.mac} ${lease.host ?? ""} ${lease.hostname ?? ""}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    found.sort((one, other) => one.rank - other.rank);
    const shown = found.slice(0, SHOWN_LEASES);
    keyed(
      find("#lease-rows"),
      shown,
      ({ address }) => address,
      () => this.makeLease(),
      (row, lease) => this.fillLease(row, lease),
    );
    find("#leases").hidden = !this.leases.size;
    const all = `${this.leases.size} ${this.leases.size === 1 ? "lease" : "leases"}`;
    const of = found.length < this.leases.size ? `${found.length} of ${all}` : all;
    setText(find("#count"), shown.length < found.length ? `first ${shown.length} of ${of}: search to see others` : of);
  }

  makeLease() {
    const row = line(7);
    row.children[2].append(element("a"));
    if (isAdmin) {
      row.lastChild.append(
        element("button", { type: "button", class: "quiet", onclick: () => this.confirmEnd(row.dataset.key) }, "End …"),
      );
    }
    return row;
  }

  fillLease(row, lease) {
    const [address, mac, host, hostname, state, until, end] = row.children;
    const now = this.state(lease);
    setText(address, lease.address);
    setText(mac, lease.mac);
    setText(host.firstChild, lease.host ? split(lease.host).name : "");
    setAttribute(host.firstChild, "href", lease.host ? hostPage(lease.host) : null);
    setText(hostname, lease.hostname ?? "");
    setText(state, now === "declined" ? "in use by another machine" : now);
    setAttribute(state, "data-state", now === "declined" ? "warn" : null);
    fillTime(until, lease.until);
    if (!isAdmin) return;
    end.firstChild.hidden = now !== "bound" && now !== "declined";
    setAttribute(end.firstChild, "aria-label", `End the lease of ${lease.address}`);
  }

  confirmEnd(address) {
    const { mac, host } = this.leases.get(address);
    openForm({
      title: `End the lease of ${address}?`,
      intro: `${host ? split(host).name : mac} is not told: end the lease of a machine that is gone. Another machine may get the address at once.`,
      fields: [],
      action: "End the lease",
      submit: () => request("DELETE", `/api/v1/leases/${address}`),
    });
  }
}

new NetworkPage();
load();
