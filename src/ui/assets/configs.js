// The page of all configs, with the editor.

import { names } from "./bulk.js";
import { fillOptions, labelled, openForm, toast } from "./dialogs.js";
import { element, find, findAll, isAdmin, keyed, setAttribute, setText } from "./elements.js";
import "./frame.js";
import { Refusal, hostPath, request, split } from "./requests.js";
import { collator, load, onRows, rows, sortedIds } from "./rows.js";

const MAIN_FILES = {
  ignition: "config.ign",
  "cloud-init": "user-data",
  kickstart: "ks.cfg",
  preseed: "preseed.cfg",
  script: "script",
};

/** Number of hosts that a preview is offered for. */
const MAX_PREVIEWS = 500;

/** The list of configs, and an editor whose content the server checks while it is typed. */
class ConfigPage {
  constructor() {
    this.path = "/api/v1/bootconfigs";
    onRows((change) => this.update(change));
    find("#new").hidden = !isAdmin;
    find("#new").addEventListener("click", () => this.create());
    find("#save").addEventListener("click", () => this.save());
    find("#delete").addEventListener("click", () => this.confirmDelete());
    for (const button of ["#save", "#delete"]) find(button).hidden = !isAdmin;
    find("#preview-host").addEventListener("change", () => this.preview());
    find("#preview").addEventListener("toggle", () => this.preview());
    const text = find("#text");
    text.readOnly = !isAdmin;
    text.addEventListener("input", () => this.edited());
    text.addEventListener("keydown", (event) => {
      if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.save();
      }
    });
    addEventListener("beforeunload", (event) => this.isChanged && event.preventDefault());
    addEventListener("hashchange", () => this.open(location.hash.slice(1)));
  }

  update(change) {
    const names = sortedIds(rows.configs);
    find("#none").hidden = names.length > 0;
    const make = (id) =>
      element("li", {}, element("a", { href: `#${id}` }, element("b", {}, id), element("span", { class: "hint" })));
    keyed(
      find("#list"),
      names,
      (id) => id,
      make,
      (item, id) => {
        const row = rows.configs.get(id);
        setText(
          item.firstChild.lastChild,
          [row.format, row.confidential ? "confidential" : ""].filter(Boolean).join(", "),
        );
        setAttribute(item.firstChild, "aria-current", this.object?.metadata.name === id ? "true" : null);
      },
    );
    if (!change) {
      if (!this.object) this.open(location.hash.slice(1) || names[0]);
    } else if (this.object) {
      const name = this.object.metadata.name;
      if (change.goneConfigs?.includes(name) && !this.isNew) this.close();
      // Half-typed text stays: the save reports the conflict.
      else if (change.configs?.some(({ id }) => id === name) && !this.isChanged && !this.isSaving)
        this.open(name, this.file);
      this.showAffected();
    }
  }

  async open(name, file) {
    if (!name || (this.isChanged && !confirm("Discard what you changed?"))) return;
    try {
      const object = await request("GET", `${this.path}/${name}`);
      const isSame =
        this.object?.metadata.name === name && JSON.stringify(this.object.spec) === JSON.stringify(object.spec);
      // What the server said of the content still holds.
      if (isSame && !this.isChanged) this.object = object;
      else this.show(object, file);
    } catch (refusal) {
      this.close();
      toast(refusal.message, { isError: true });
    }
  }

  show(object, file, isNew = false) {
    [this.object, this.isNew, this.isChanged] = [object, isNew, isNew];
    const { name } = object.metadata;
    if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
    find("#editor").hidden = false;
    find("#delete").disabled = isNew;
    setText(find("#config-title"), name);
    setText(
      find("#config-facts"),
      [object.spec.format, object.spec.confidential ? "confidential: its content is not shown" : ""]
        .filter(Boolean)
        .join(", "),
    );
    const files = Object.keys(object.spec.data ?? {});
    this.choose(
      files.includes(file) ? file : (files.find((one) => one === MAIN_FILES[object.spec.format]) ?? files[0]),
    );
    this.setVerdict("", "");
    this.showAffected();
    for (const link of findAll("#list a")) setAttribute(link, "aria-current", link.hash === `#${name}` ? "true" : null);
    find("#save").disabled = !isNew;
    if (isNew) this.check();
  }

  choose(file) {
    this.file = file;
    const files = Object.keys(this.object.spec.data ?? {});
    keyed(
      find("#files"),
      files,
      (one) => one,
      (one) => element("button", { type: "button", onclick: () => this.choose(one) }, one),
      (button, one) => setAttribute(button, "aria-pressed", String(one === file)),
    );
    const text = find("#text");
    const content = this.object.spec.data?.[file] ?? "";
    if (text.value !== content) text.value = content;
    // A config of a template, or of binary files alone, has no text to change.
    text.disabled = file === undefined;
  }

  close() {
    [this.object, this.isChanged] = [null, false];
    find("#editor").hidden = true;
  }

  edited() {
    this.isChanged = true;
    this.object.spec.data[this.file] = find("#text").value;
    find("#save").disabled = false;
    this.setVerdict("checking", "checking …");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), 300);
  }

  write(query = "") {
    const path = this.isNew ? this.path : `${this.path}/${this.object.metadata.name}`;
    return request(this.isNew ? "POST" : "PUT", path + query, this.object);
  }

  /** Asks the server whether it would take the content. Only the newest answer counts. */
  async check() {
    const checked = (this.checks = (this.checks ?? 0) + 1);
    try {
      const { status } = await this.write("?dryRun=All");
      if (checked !== this.checks) return;
      const warnings = status?.warnings ?? [];
      this.setVerdict(warnings.length ? "warn" : "good", warnings.join(" · ") || "valid");
    } catch (refusal) {
      if (checked === this.checks) this.setVerdict("bad", refusal.message);
    }
  }

  setVerdict(state, message) {
    const shown = find("#verdict");
    shown.dataset.state = state;
    setAttribute(find("#text"), "aria-invalid", state === "bad" ? "true" : null);
    const place = state === "bad" ? /line (\d+)(?:,? column (\d+))?/.exec(message) : null;
    shown.replaceChildren(message);
    if (!place) return;
    const [line, column] = [Number(place[1]), Number(place[2] ?? 1)];
    shown.append(
      " ",
      element(
        "button",
        { type: "button", class: "quiet", onclick: () => this.goTo(line, column) },
        `Go to line ${line}`,
      ),
    );
  }

  goTo(line, column) {
    const text = find("#text");
    const lines = text.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0) + Math.max(0, column - 1);
    text.focus();
    text.setSelectionRange(start, start + 1);
    text.scrollTop = (line - 6) * parseFloat(getComputedStyle(text).lineHeight);
  }

  async save() {
    if (!this.object || !isAdmin) return;
    this.isSaving = true;
    find("#save").disabled = true;
    try {
      this.object = await this.write();
      [this.isNew, this.isChanged] = [false, false];
      find("#delete").disabled = false;
      this.setVerdict("good", "saved");
    } catch (refusal) {
      this.setVerdict("bad", refusal.message);
      find("#save").disabled = false;
    }
    this.isSaving = false;
  }

  /** Shows whom a change of the config concerns. */
  showAffected() {
    const name = this.object.metadata.name;
    const hosts = [...rows.hosts.values()].filter(({ config }) => config === name);
    const images = [...rows.images.values()].filter(({ configs }) => configs?.includes(name)).map(({ id }) => id);
    const parts = [];
    if (images.length) parts.push(`Offered by ${images.join(", ")}.`);
    parts.push(
      hosts.length
        ? `A change concerns ${hosts.length} ${hosts.length === 1 ? "host" : "hosts"} at the next install: ${names(hosts)}.`
        : "No host uses it.",
    );
    setText(find("#affects"), parts.join(" "));
    this.offerPreview(hosts);
  }

  /** Offers a look at what a host gets of the saved config. */
  offerPreview(hosts) {
    const ids = hosts.map(({ id }) => id).sort(collator.compare);
    find("#preview").hidden = !ids.length || this.isNew;
    const select = find("#preview-host");
    const chosen = ids.includes(select.value) ? select.value : (ids[0] ?? "");
    const isOther = chosen !== this.previewed?.id || this.object.metadata.resourceVersion !== this.previewed.version;
    fillOptions(
      select,
      ids.slice(0, MAX_PREVIEWS).map((id) => [id, split(id).name]),
      chosen,
    );
    if (isOther) this.preview();
  }

  /** Shows the files of the config as the chosen host would be sent them now. */
  async preview() {
    const [box, id, { object }] = [find("#preview-files"), find("#preview-host").value, this];
    if (!find("#preview").open || !id) return;
    this.previewed = { id, version: object.metadata.resourceVersion };
    // A confidential config stays hidden, also from those who may ask for it.
    const query = isAdmin && !object.spec.confidential ? "?secrets=true" : "";
    try {
      const { boots } = await request("GET", `${hostPath(id)}/rehearsal${query}`);
      if (this.previewed.id !== id) return;
      const step = boots.flatMap(({ steps }) => steps).find(({ config }) => config);
      const files = step?.config?.files ?? [];
      setText(
        find("#preview-facts"),
        step
          ? step.isReached
            ? step.decision.message
            : `Not sent now: ${step.decision.message}`
          : "The host gets no config now.",
      );
      box.replaceChildren(
        ...files.flatMap(({ name, text }) => [element("h3", {}, name), element("pre", { tabindex: 0 }, text)]),
      );
    } catch (refusal) {
      box.replaceChildren(element("p", { class: "error", role: "alert" }, refusal.message));
    }
  }

  create() {
    const name = element("input", {
      name: "name",
      required: true,
      pattern: "[a-z0-9]([a-z0-9.\\-]*[a-z0-9])?",
      autocomplete: "off",
    });
    const format = element("select", { name: "format" });
    fillOptions(
      format,
      Object.keys(MAIN_FILES).map((one) => [one, one]),
      "ignition",
    );
    openForm({
      title: "New config",
      fields: [labelled("Name", name), labelled("Format", format)],
      action: "Write it",
      submit: async (values) => {
        if (rows.configs.has(values.name)) throw new Refusal(`${values.name} exists already.`);
        this.show(
          {
            apiVersion: "v1",
            kind: "BootConfig",
            metadata: { name: values.name },
            spec: { format: values.format, data: { [MAIN_FILES[values.format]]: "" } },
          },
          undefined,
          true,
        );
        setTimeout(() => find("#text").focus());
      },
    });
  }

  confirmDelete() {
    const { name } = this.object.metadata;
    openForm({
      title: `Delete ${name}?`,
      intro: "A config that a host or an ISO names is not deleted.",
      fields: [],
      action: "Delete",
      submit: () => request("DELETE", `${this.path}/${name}`),
    });
  }
}

new ConfigPage();
load();
