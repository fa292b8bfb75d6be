// Acts on one host or on many, and says what came of it.

import { toast } from "./dialogs.js";
import { element, find } from "./elements.js";
import { split } from "./requests.js";
import { rows } from "./rows.js";

/** Does something to a host, and says what came of it. */
export async function perform(row, done, action) {
  try {
    await action(row);
    toast(`${split(row.id).name}: ${done}`);
  } catch (refusal) {
    toast(`${split(row.id).name}: ${refusal.message}`, { isError: true });
  }
}

/** Does the same to many hosts, six at a time, and sums up who refused and why. */
export async function bulk(chosen, done, action) {
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
    element(
      "li",
      {},
      element("strong", {}, `${group.length} × `),
      reason,
      element("p", { class: "hint" }, names(group)),
    ),
  );
  const dialog = find("#dialog");
  dialog.replaceChildren(
    element("h2", { id: "dialog-title" }, `${count} ${done}, ${refused} refused`),
    element("ul", { class: "refusals" }, ...groups),
    element("form", { method: "dialog", class: "buttons" }, element("button", { class: "primary" }, "Close")),
  );
  if (!dialog.open) dialog.showModal();
}

export function names(group) {
  const shown = group.slice(0, 8).map((row) => split(row.id).name);
  return group.length > 8 ? `${shown.join(", ")} and ${group.length - 8} more` : shown.join(", ");
}
