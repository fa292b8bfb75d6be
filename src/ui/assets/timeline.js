// Entries of the timeline as sentences.

import { element, setText } from "./elements.js";
import { duration, seconds, setTime, size, timeElement } from "./times.js";

/** What is asked of a BMC, as a part of a sentence. */
const RESETS = {
  on: "switch it on",
  forceOff: "cut its power",
  off: "shut it down",
  restart: "restart it",
  reset: "reset it",
  powerCycle: "switch it off and on",
  nmi: "interrupt it (NMI)",
};

/** Returns an event of the timeline as a sentence. */
export function describe({ event, detail = {} }) {
  const details = detail;
  switch (event) {
    case "first_seen":
      return "seen for the first time";
    case "assigned":
      return `install of ${details.image} requested`;
    case "local_boot_requested":
      return "boot from its disk requested";
    case "held":
      return "held: no protocol answers it";
    case "offer":
      return `offered ${details.file} to ${details.architecture}`;
    case "tftp_started":
      return `began to load ${details.file}`;
    case "tftp_completed":
      return `loaded ${details.file}: ${size(details.bytes)} in ${details.milliseconds} ms${details.resent ? `, ${details.resent} blocks sent again` : ""}`;
    case "script":
      return `got its boot script: ${details.action}${details.image ? ` ${details.image}` : ""}${details.reason ? ` (${details.reason})` : ""}`;
    case "iscsi_login":
      return `logged in to ${details.image ?? details.target}`;
    case "config_fetched":
      return `fetched its config ${details.config}${details.file ? `/${details.file}` : ""}`;
    case "boot_completed":
      return "reported that its install is complete";
    case "local_disk":
      return `was sent to its disk (${details.reason})`;
    case "installer":
      return `${details.stage ? `${details.stage}: ` : ""}${details.message}`;
    case "power":
      return `power ${details.state}`;
    case "power_switched":
      return `its BMC was asked to ${RESETS[details.reset] ?? details.reset}`;
    case "wake_on_lan_sent":
      return `Wake-on-LAN packets were sent to ${details.networks} networks`;
    case "boot_device_set":
      return `its boot device was set: ${details.device}`;
    case "refused":
      return `refused over ${details.protocol}: ${details.message}`;
    case "stalled":
      return details.message;
    case "stall_cleared":
      return `boots on: ${details.reason.replaceAll("_", " ")} is over`;
    case "boot_finished":
      return `boot finished after ${duration(details.milliseconds / 1000)}: ${details.outcome.replaceAll("_", " ")}`;
    case "address_changed":
      return `address changed from ${details.from} to ${details.to}`;
    case "lease_ended":
      return `an operator ended its lease of ${details.address}`;
    default:
      return (
        details.message ??
        Object.entries(details)
          .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`)
          .join(", ")
      );
  }
}

export const entryKey = (entry) => `${entry.time} ${entry.mac ?? ""} ${entry.event}`;

/** Makes the line of an entry of the timeline. */
export function entryLine(withHost) {
  return (entry) =>
    element(
      "li",
      { data: { event: entry.event } },
      timeElement(seconds(entry.time)),
      element("span", { class: "event" }, entry.event.replaceAll("_", " ")),
      withHost
        ? element(
            entry.host ? "a" : "span",
            entry.host ? { href: `/ui/hosts?q=${entry.host}` } : {},
            entry.host ?? "server",
          )
        : null,
      element("span", { class: "what" }),
    );
}

export function updateEntry(line, entry) {
  setTime(line.firstChild, seconds(entry.last ?? entry.time));
  setText(line.lastChild, describe(entry) + (entry.count > 1 ? ` (${entry.count} times)` : ""));
}
