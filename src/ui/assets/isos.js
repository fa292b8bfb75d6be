// The page of all ISOs.

import { openForm, openMenu, toast } from "./dialogs.js";
import { element, find, isAdmin, keyed, setAttribute, setText } from "./elements.js";
import "./frame.js";
import { patch, request } from "./requests.js";
import { load, onRows, rows, sortedIds } from "./rows.js";
import { size } from "./times.js";
import { uploads } from "./uploads.js";

class IsoPage {
  constructor() {
    onRows(
      (change) => (!change || change.images || change.goneImages || change.hosts || change.goneHosts) && this.draw(),
    );
    if (!isAdmin) return;
    find("#add").hidden = false;
    find("#file").addEventListener("change", (event) => {
      uploads.offer([...event.target.files]);
      event.target.value = "";
    });
    uploads.findUnfinished();
  }

  draw() {
    const used = new Map();
    for (const { image } of rows.hosts.values()) used.set(image, (used.get(image) ?? 0) + 1);
    const images = sortedIds(rows.images).map((id) => rows.images.get(id));
    find("#empty").hidden = images.length > 0;
    keyed(
      find("#iso-rows"),
      images,
      ({ id }) => id,
      (row) => this.makeRow(row),
      (line, row) => this.fillRow(line, row, used.get(row.id) ?? 0),
    );
  }

  makeRow({ id }) {
    const menu = (event) => openMenu(event.currentTarget, this.actions(rows.images.get(id)));
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, id),
      element("td", { class: "wrap" }),
      element("td"),
      element("td", { class: "number" }),
      element("td", { class: "wrap" }),
      element("td", { class: "number" }, element("a")),
      element("td", { class: "wrap" }),
      element(
        "td",
        { class: "number" },
        isAdmin
          ? element(
              "button",
              {
                type: "button",
                class: "quiet",
                "aria-haspopup": "menu",
                "aria-expanded": "false",
                "aria-label": `Actions for ${id}`,
                onclick: menu,
              },
              "⋯",
            )
          : "",
      ),
    );
  }

  fillRow(line, row, count) {
    const [, recognised, boots, length, configs, hosts, state] = line.children;
    setText(recognised, row.distribution || row.volume || row.file);
    setAttribute(recognised, "title", [row.file, row.sha256 && `SHA-256 ${row.sha256}`].filter(Boolean).join("\n"));
    setText(boots, row.boots?.join(", ") ?? "");
    setText(length, row.size == null ? "" : size(row.size));
    setText(configs, row.configs?.join(", ") ?? "");
    setText(hosts.firstChild, String(count));
    setAttribute(hosts.firstChild, "href", count ? `/ui/hosts?q=${encodeURIComponent(row.id)}` : null);
    setText(state, [row.message || row.phase, ...(row.warnings ?? [])].join(" · "));
    setAttribute(state, "data-state", row.phase === "Broken" ? "bad" : row.warnings ? "warn" : "good");
  }

  actions(row) {
    const found = [["Configs …", () => this.chooseConfigs(row)]];
    if (row.sha256)
      found.push([
        "Copy the SHA-256",
        () => navigator.clipboard?.writeText(row.sha256).then(() => toast("SHA-256 copied")),
      ]);
    found.push(["Delete …", () => this.confirmDelete(row), "danger"]);
    return found;
  }

  chooseConfigs(row) {
    const options = sortedIds(rows.configs);
    const boxes = options.map((id) =>
      element(
        "label",
        { class: "check" },
        element("input", { type: "checkbox", value: id, ...(row.configs?.includes(id) ? { checked: true } : {}) }),
        id,
      ),
    );
    openForm({
      title: `Configs of ${row.id}`,
      intro: options.length ? "The configs that a host may combine with this ISO." : "There is no config yet.",
      fields: boxes,
      action: "Save",
      submit: () =>
        patch(`/api/v1/iscsi-cdroms/${row.id}`, {
          spec: {
            bootConfigs: boxes
              .map((box) => box.firstChild)
              .filter(({ checked }) => checked)
              .map(({ value }) => value),
          },
        }),
    });
  }

  confirmDelete(row) {
    openForm({
      title: `Delete ${row.id}?`,
      intro: "A file that was uploaded is deleted with it.",
      fields: [],
      action: "Delete",
      submit: () => request("DELETE", `/api/v1/iscsi-cdroms/${row.id}`),
    });
  }
}

new IsoPage();
load();
