// What a host can boot, and what can be done with a host.

import { bulk, perform } from "./bulk.js";
import { fillOptions, labelled, openForm } from "./dialogs.js";
import { element } from "./elements.js";
import { powerActions } from "./power.js";
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

export const isImage = (image) => image !== "localboot" && image !== "menu";

/** Returns the actions that a host has now. */
export function actionsOf(row) {
  const found = [];
  if (row.isNew) found.push(["Approve …", () => approve(row)], ["Ignore", () => perform(row, "ignored", ignore)]);
  found.push(...powerActions(row));
  if (isImage(row.image)) found.push(["Reinstall …", () => confirmReinstall([row]), "danger"]);
  if (row.phase !== "LocalBoot") found.push(["Release to its disk", () => perform(row, "released", release)]);
  if (row.phase !== "Held") found.push(["Hold", () => perform(row, "held", hold)]);
  found.push(["Delete …", () => confirmDelete(row), "danger"]);
  return found;
}

/** Decides that a new machine is not wanted: it is held, and no longer new. */
export const ignore = (row) =>
  patch(hostPath(row.id), { metadata: { annotations: { "bootlatch.io/ignored": new Date().toISOString() } } }).then(
    () => hold(row),
  );

/** Returns the fields of a dialog that chooses what is booted: ISO, config, and how often. */
function bootFields(first) {
  const image = element("select", { name: "image" });
  const config = element("select", { name: "config" });
  const forever = element("input", { name: "forever", type: "checkbox" });
  const update = () => {
    fillOptions(config, configOptions(image.value, ""), allows(image.value, config.value) ? config.value : "");
    config.disabled = config.options.length < 2;
    forever.disabled = !isImage(image.value);
  };
  fillOptions(image, imageOptions(), first);
  image.addEventListener("change", update);
  update();
  return [
    labelled("ISO", image),
    labelled("Config", config),
    element("label", { class: "check" }, forever, "Boot it at every boot, not only for one install"),
  ];
}

const bootMode = (forever) => (forever ? "forever" : "once");

export function approve(row) {
  openForm({
    title: `${row.isNew ? "Approve" : "Assign to"} ${split(row.id).name}`,
    intro: `${row.mac}${row.firmware ? `, ${row.firmware}` : ""}${row.address ? `, ${row.address}` : ""}. It boots what you choose at its next boot.`,
    fields: bootFields(isImage(row.image) ? row.image : (sortedIds(rows.images)[0] ?? "localboot")),
    action: row.isNew ? "Approve" : "Assign",
    submit: ({ image: chosen, config: ref, forever }) =>
      isImage(chosen)
        ? act(row, "install", { image: chosen, bootConfigRef: ref ?? "", bootMode: bootMode(forever) })
        : patch(hostPath(row.id), { spec: { image: chosen, bootConfigRef: "" } }).then(() =>
            chosen === "localboot" ? release(row) : null,
          ),
  });
}

/** Declares a host. */
export function addHost() {
  const text = (name, placeholder, more = {}) =>
    element("input", { name, placeholder, autocomplete: "off", spellcheck: "false", ...more });
  openForm({
    title: "Add a host",
    intro: "A machine that boots from the network appears by itself. Add one here to decide before it does.",
    fields: [
      labelled("Name", text("name", "node1", { required: true, pattern: "[a-z0-9]([a-z0-9.\\-]*[a-z0-9])?" })),
      labelled("MAC", text("mac", "52:54:00:12:34:56", { required: true })),
      labelled("Address", text("ip", "optional: fixed address")),
      ...bootFields("localboot"),
    ],
    action: "Add",
    submit: ({ name, mac, ip, image, config, forever }) => {
      const spec = {
        bootMACAddress: mac.trim(),
        image,
        bootConfigRef: config ?? "",
        ...(isImage(image) ? { bootMode: bootMode(forever) } : {}),
      };
      if (ip.trim()) spec.ip = ip.trim();
      return request("POST", "/api/v1/namespaces/default/baremetalhosts", {
        apiVersion: "v1",
        kind: "BareMetalHost",
        metadata: { name },
        spec,
      });
    },
  });
}

function confirmDelete(row) {
  openForm({
    title: `Delete ${split(row.id).name}?`,
    intro: "Its history goes with it. If it boots from the network again, it is a new machine.",
    fields: [],
    action: "Delete",
    submit: () => request("DELETE", hostPath(row.id)),
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
