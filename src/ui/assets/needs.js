// What needs a person, and what to do in an installation that is empty.

import { element, find, keyed, setAttribute, setText } from "./elements.js";
import { groupOf, needsYou } from "./host_rows.js";
import { rows } from "./rows.js";
import { setTime } from "./times.js";

/** Returns what to do in an installation that has seen no machine yet. */
export function firstSteps() {
  const step = (title, text, ...more) => element("li", {}, element("b", {}, title), element("span", {}, text, ...more));
  return element(
    "div",
    { class: "first-steps" },
    element("h2", {}, "First steps"),
    element(
      "ol",
      {},
      step(
        "See the network. ",
        "Look at which interfaces are served, and whether another boot server answers there: ",
        element("a", { href: "/ui/network" }, "Network"),
        ".",
      ),
      step(
        "Add an ISO. ",
        "Drop an installer's ISO on ",
        element("a", { href: "/ui/isos" }, "ISOs"),
        ", or run ",
        element("code", {}, "bootlatch iso add NAME FILE"),
        ".",
      ),
      step(
        "Boot a machine. ",
        "Switch on one that boots from the network. It appears here as new, and you decide what it gets.",
      ),
      step(
        "Write a rule. ",
        "Rules in the configuration decide about new machines by themselves; ",
        element("code", {}, "bootlatch rehearse --mac MAC"),
        " shows what they do.",
      ),
    ),
  );
}

/** Shows the strip "needs you": the hosts by their diagnosis. `pressed` is the group that is shown alone. */
export function drawNeeds(pressed, toggle) {
  const groups = new Map();
  for (const row of rows.hosts.values()) {
    if (!needsYou(row)) continue;
    const key = groupOf(row);
    const group = groups.get(key) ?? { key, count: 0, title: groupTitle(row, key), since: Infinity };
    group.count += 1;
    group.since = Math.min(group.since, row.stall?.since ?? row.since ?? Infinity);
    groups.set(key, group);
  }
  const ordered = [...groups.values()].sort(
    (a, b) => (b.key === "new") - (a.key === "new") || b.count - a.count || a.key.localeCompare(b.key),
  );
  find("#needs").hidden = !ordered.length;
  const make = ({ key }) =>
    element(
      "li",
      {},
      element("button", { type: "button", onclick: () => toggle(key) }, element("b"), element("span"), element("time")),
    );
  keyed(
    find("#needs-list"),
    ordered,
    ({ key }) => key,
    make,
    (item, group) => {
      const [count, title, since] = item.firstChild.children;
      setText(count, String(group.count));
      setText(title, group.title);
      setTime(since, group.since === Infinity ? null : group.since);
      setAttribute(item.firstChild, "aria-pressed", String(pressed === group.key));
      item.classList.toggle("new", group.key === "new");
    },
  );
}

function groupTitle(row, key) {
  if (key === "new") return "new machines";
  if (key === "failed") return "failed installs";
  return row.stall.title;
}
