// What can be done about a diagnosis: the codes are those of the server (ui/advice.rs).

import { approve, confirmReinstall, isImage, release } from "./actions.js";
import { perform } from "./bulk.js";
import { setDevice, switchPower } from "./power.js";

const hasBmc = (row) => Boolean(row.power);

/** What an administrator can do, by code: [title, action, whether it applies to a host]. */
const ACTIONS = {
  approve: ["Approve …", (row) => approve(row)],
  release: ["Release to its disk", (row) => perform(row, "released", release), (row) => row.phase !== "LocalBoot"],
  reinstall: ["Reinstall …", (row) => confirmReinstall([row]), (row) => isImage(row.image)],
  restart: ["Restart …", (row) => switchPower([row], "restart"), hasBmc],
  reset: ["Reset …", (row) => switchPower([row], "reset"), hasBmc],
  network_boot: [
    "Boot from the network next",
    (row) => perform(row, "boots from the network next", (one) => setDevice(one, "network")),
    hasBmc,
  ],
};

/** Where everybody can look, by code: [title, path]. */
const LINKS = {
  isos: ["ISOs", () => "/ui/isos"],
  config: ["Its config", (row) => `/ui/configs#${row.config}`],
  network: ["Network", () => "/ui/network"],
  installer_lines: ["Lines of its installer", () => "?show=installer#history-title"],
  power_log: ["Its power log", () => "?show=power#history-title"],
};

/** Returns what the page offers about the diagnosis of a host: [title, action or path]. */
export function advisedActions(row, isAdmin) {
  const found = [];
  for (const code of row.stall?.advice ?? []) {
    if (ACTIONS[code]) {
      const [title, act, applies = () => true] = ACTIONS[code];
      if (isAdmin && applies(row)) found.push([title, () => act(row)]);
    } else if (code !== "config" || row.config) {
      const [title, path] = LINKS[code] ?? [`Setting ${code}`, () => `/ui/settings?q=${code}`];
      found.push([title, path(row)]);
    }
  }
  return found;
}
