// Power of hosts: what can be asked of a BMC, in the words of the command line.

import { bulk, perform } from "./bulk.js";
import { labelled, openForm } from "./dialogs.js";
import { element } from "./elements.js";
import { hostPath, request, split } from "./requests.js";

/** The operations: [title, what is under way, what it does to the machine]. Those with a sentence ask first. */
const OPERATIONS = {
  on: ["Power on", "switching on", ""],
  restart: [
    "Restart",
    "restarting",
    "The system is asked to shut down, and starts again. A machine that is off is switched on.",
  ],
  off: [
    "Power off",
    "shutting down",
    "The system is asked to shut down. If it does not within some minutes, its power is cut.",
  ],
  reset: [
    "Reset",
    "resetting",
    "The machine starts again at once, as by its reset button. What its system has not written is lost.",
  ],
  forceOff: [
    "Cut the power",
    "cutting the power",
    "The power is cut at once. What the system has not written is lost.",
  ],
};

/** The devices of the next boot: [value, title]. */
const DEVICES = [
  ["network", "the network"],
  ["disk", "its disk"],
  ["cd", "the BMC's virtual CD"],
  ["default", "its own boot order"],
];

const ask = (row, operation, delaySeconds = 0) =>
  request("POST", `${hostPath(row.id)}/power`, { operation, ...(delaySeconds ? { delaySeconds } : {}) });

const isOff = (row) => row.power === "off";

/** Returns the items of a menu for the power of a host. */
export function powerActions(row) {
  if (!row.power) return [["Wake by network", () => perform(row, "Wake-on-LAN packet sent", (one) => ask(one, "on"))]];
  const operations = isOff(row)
    ? ["on", "restart"]
    : ["restart", "off", "reset", "forceOff", ...(row.power === "on" ? [] : ["on"])];
  const items = operations.map((operation) => {
    const [title, , warning] = OPERATIONS[operation];
    const asks = warning && !isOff(row);
    return [
      asks ? `${title} …` : title,
      () => switchPower([row], operation),
      asks && operation !== "restart" ? "danger" : undefined,
    ];
  });
  return [...items, ["Next boot from …", () => chooseDevice(row)]];
}

/** Returns the items of a menu for the power of many hosts. */
export const powerOf = (chosen) =>
  Object.entries(OPERATIONS).map(([operation, [title]]) => [
    `${title} …`,
    () => switchPower(chosen, operation),
    ["on", "restart"].includes(operation) ? undefined : "danger",
  ]);

/** Asks for confirmation where power is cut, and switches the power of hosts. */
export function switchPower(chosen, operation) {
  const [title, doing, warning] = OPERATIONS[operation];
  const [first] = chosen;
  if (chosen.length === 1 && (!warning || isOff(first))) return perform(first, doing, (row) => ask(row, operation));
  const pause = element("input", {
    name: "pause",
    type: "number",
    min: 0,
    max: 600,
    step: 0.1,
    value: operation === "on" ? 1 : 0,
  });
  openForm({
    title: `${title}: ${chosen.length === 1 ? split(first.id).name : `${chosen.length} hosts`}?`,
    intro: warning,
    fields: chosen.length > 1 ? [labelled("Pause (s)", pause)] : [],
    action: title,
    submit: ({ pause: seconds }) => {
      if (chosen.length === 1) return ask(first, operation);
      // A rack that is switched on at once may trip its fuse: each host begins a pause later than the one before.
      const turns = new Map(chosen.map((row, turn) => [row.id, turn]));
      return bulk(chosen, "asked", (row) => ask(row, operation, Math.round(turns.get(row.id) * Number(seconds || 0))));
    },
  });
}

function chooseDevice(row) {
  const device = element(
    "select",
    { name: "device" },
    ...DEVICES.map(([value, title]) => element("option", { value }, title)),
  );
  openForm({
    title: `Next boot of ${split(row.id).name}`,
    intro: "Its BMC is told now. It holds for one boot.",
    fields: [labelled("Boot from", device)],
    action: "Set",
    submit: (values) => setDevice(row, values.device),
  });
}

/** Sets the device of a host's next boot. */
export const setDevice = (row, device) => request("POST", `${hostPath(row.id)}/bootdevice`, { device });
