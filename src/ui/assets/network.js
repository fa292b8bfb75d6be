// The page of the network.

import { element, find } from "./elements.js";
import "./frame.js";
import { request } from "./requests.js";
import { load, setFeed } from "./rows.js";
import { serverNow, timeElement } from "./times.js";

class NetworkPage {
  constructor() {
    setFeed({ rows: "?host=" });
    find("#refresh").addEventListener("click", () => this.show());
    this.show();
  }

  async show() {
    const box = find("#interfaces");
    try {
      const { items } = await request("GET", "/api/v1/interfaces");
      const heard = serverNow();
      if (!items.length)
        return box.replaceChildren(
          element("p", { class: "panel hint" }, "DHCP is off: machines are told by another server where to boot from."),
        );
      box.replaceChildren(...items.map((one) => this.panel(one, heard)), await this.counters());
    } catch (refusal) {
      box.replaceChildren(element("p", { class: "error", role: "alert" }, refusal.message));
    }
  }

  /** Returns what was dropped and refused since the server started, by the counters of the metrics. */
  async counters() {
    const text = await (await fetch("/metrics")).text();
    const lines = [...text.matchAll(/^bootlatch_(packets_dropped|requests_refused)_total\{(.*)\} (\d+)/gm)].filter(
      ([, , , count]) => count !== "0",
    );
    const label = (labels, name) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] ?? "";
    const found = lines
      .map(([, what, labels, count]) => ({
        what: what === "packets_dropped" ? "dropped" : "refused",
        protocol: label(labels, "protocol"),
        reason: label(labels, "reason"),
        count: Number(count),
      }))
      .sort((a, b) => b.count - a.count);
    const heads = ["Count", "What", "Protocol", "Reason"].map((title) =>
      element("th", { scope: "col", class: title === "Count" ? "number" : null }, title),
    );
    const line = ({ what, protocol, reason, count }) =>
      element(
        "tr",
        {},
        element("td", { class: "number" }, String(count)),
        element("td", {}, what),
        element("td", {}, protocol),
        element("td", { class: "wrap" }, reason.replaceAll("_", " ")),
      );
    return element(
      "section",
      { class: "panel", "aria-label": "Dropped and refused" },
      element("h2", {}, "Dropped and refused since the start"),
      found.length
        ? element(
            "table",
            { class: "plain" },
            element("thead", {}, element("tr", {}, ...heads)),
            element("tbody", {}, ...found.map(line)),
          )
        : element("p", { class: "hint" }, "Nothing was dropped, and no request was refused."),
    );
  }

  panel({ name, address, mode, standsDown, servers }, heard) {
    const modes = {
      proxy: "ProxyDHCP: names boot files, another server gives addresses",
      server: "DHCP server: gives addresses and names boot files",
    };
    const heads = ["Server", "Role", "Gives addresses", "Last heard"].map((title) =>
      element("th", { scope: "col" }, title),
    );
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
        ? element(
            "table",
            { class: "plain" },
            element("thead", {}, element("tr", {}, ...heads)),
            element("tbody", {}, ...lines),
          )
        : element("p", { class: "hint" }, "No other DHCP or boot server was heard lately."),
    );
  }
}

new NetworkPage();
load();
