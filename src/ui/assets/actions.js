// What a host can boot, and what can be done with a host.

import { fillOptions, labelled, openForm, toast } from "./dialogs.js";
import { element, find } from "./elements.js";
import { hostPath, patch, request, split } from "./requests.js";
import { rows, sortedIds } from "./rows.js";

export function imageOptions(current) {
  const fixed = [
    ["localboot", "localboot"],
    ["menu", "menu"],
  ];
  const names = sortedIds(rows.images);
  if (current && !rows.images.has(current) && !fixed.some(([value]) => value === current)) names.unshift(current);
  return [
    ...fixed,
    ...names.map((name) => [name, rows.images.get(name)?.phase === "Broken" ? `${name} (broken)` : name]),
  ];
}

/** Returns the configs that an ISO lists; a config that is set stays in the list. */
export function configOptions(image, current) {
  const listed = rows.images.get(image)?.configs ?? [];
  const names = current && !listed.includes(current) ? [current, ...listed] : listed;
  return [["", names.length ? "none" : ""], ...names.map((name) => [name, name])];
}

export const allows = (image, config) => !config || (rows.images.get(image)?.configs ?? []).includes(config);

export const setImage = (row, image) =>
  patch(hostPath(row.id), { spec: { image, ...(allows(image, row.config) ? {} : { bootConfigRef: "" }) } });
export const setConfig = (row, config) => patch(hostPath(row.id), { spec: { bootConfigRef: config } });
export const act = (row, action, body) => request("POST", `${hostPath(row.id)}/${action}`, body);
export const reinstall = (row) => act(row, "install", {});
export const release = (row) => act(row, "localboot");
export const hold = (row) => act(row, "hold");

/** Requests a power state. A state that was requested before counts as a new request, too. */
export async function setPower(row, online) {
  const host = await patch(hostPath(row.id), { spec: { online } });
  if (host.status.power === (online ? "on" : "off") || host.status.powerTransition) return;
  await patch(hostPath(row.id), { spec: { online: null } });
  await patch(hostPath(row.id), { spec: { online } });
}

export function restart(row) {
  const { namespace, name } = split(row.id);
  return request("POST", `/redfish/v1/Systems/${namespace}~${name}/Actions/ComputerSystem.Reset`, {
    ResetType: "ForceRestart",
  });
}

export const isImage = (image) => image !== "localboot" && image !== "menu";

/** Returns the actions that a host has now. */
export function actionsOf(row) {
  const found = [];
  if (row.isNew) found.push(["Approve …", () => approve(row)], ["Ignore", () => perform(row, "ignored", ignore)]);
  if (row.power) {
    found.push(["Restart", () => perform(row, "restarting", restart)]);
    if (row.power !== "on") found.push(["Power on", () => perform(row, "powering on", (one) => setPower(one, true))]);
    if (row.power !== "off")
      found.push(["Power off", () => perform(row, "powering off", (one) => setPower(one, false)), "danger"]);
  }
  if (isImage(row.image)) found.push(["Reinstall …", () => confirmReinstall([row]), "danger"]);
  if (row.phase !== "LocalBoot") found.push(["Release to its disk", () => perform(row, "released", release)]);
  if (row.phase !== "Held") found.push(["Hold", () => perform(row, "held", hold)]);
  return found;
}

export async function perform(row, done, action) {
  try {
    await action(row);
    toast(`${split(row.id).name}: ${done}`);
  } catch (refusal) {
    toast(`${split(row.id).name}: ${refusal.message}`, { isError: true });
  }
}

/** Decides that a new machine is not wanted: it is held, and no longer new. */
export const ignore = (row) =>
  patch(hostPath(row.id), { metadata: { annotations: { "bootlatch.io/ignored": new Date().toISOString() } } }).then(
    () => hold(row),
  );

export function approve(row) {
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
        : patch(hostPath(row.id), { spec: { image: chosen, bootConfigRef: "" } }).then(() =>
            chosen === "localboot" ? release(row) : null,
          ),
  });
}

export function confirmReinstall(chosen) {
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
