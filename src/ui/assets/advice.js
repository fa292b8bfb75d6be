// What the remedy of a diagnosis speaks of.

import { actionsOf, approve } from "./actions.js";

/** Returns the actions that the remedy of a diagnosis speaks of. */
export function advisedActions(row) {
  const wanted =
    {
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
