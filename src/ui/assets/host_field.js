// The drop-downs of a host's ISO and config.

import { configOptions, imageOptions, setConfig, setImage } from "./actions.js";
import { fillOptions } from "./dialogs.js";
import { element, setAttribute, setText } from "./elements.js";
import { split } from "./requests.js";
import { rows } from "./rows.js";

/** Changes under way and refusals, by host and field: a row may leave the view and come back meanwhile. */
const fieldStates = new Map();
const fieldListeners = [];
export const onField = (listener) => fieldListeners.push(listener);

/** The drop-down of a host's ISO or config. A refusal is shown at it, and the value goes back. */
export class HostField {
  constructor(id, field) {
    [this.id, this.field, this.key] = [id, field, `${id} ${field}`];
    const label = `${field === "image" ? "ISO" : "Config"} of ${split(id).name}`;
    this.select = element("select", { "aria-label": label, data: { field } });
    this.message = element("span");
    const close = element(
      "button",
      { type: "button", class: "quiet", "aria-label": "Close", onclick: () => this.setState(null) },
      "×",
    );
    this.bubble = element("div", { class: "refusal", role: "alert", hidden: true }, this.message, close);
    this.elements = [this.select, this.bubble];
    // The options are filled in when they are needed: thousands of rows with hundreds of ISOs are too many.
    for (const event of ["focus", "pointerdown"]) this.select.addEventListener(event, () => this.offer());
    this.select.addEventListener("blur", () => this.update(rows.hosts.get(id)));
    this.select.addEventListener("change", () => this.change(this.select.value));
  }

  offer() {
    const row = rows.hosts.get(this.id);
    if (row) fillOptions(this.select, this.options(row, this.select.value));
  }

  options(row, value) {
    return this.field === "image" ? imageOptions(value) : configOptions(row.image, value);
  }

  setState(state) {
    if (state) fieldStates.set(this.key, state);
    else fieldStates.delete(this.key);
    this.update(rows.hosts.get(this.id), true);
    fieldListeners.forEach((listener) => listener(this.id));
  }

  async change(value) {
    this.setState({ value });
    try {
      const row = rows.hosts.get(this.id);
      const host = await (this.field === "image" ? setImage(row, value) : setConfig(row, value));
      const now = rows.hosts.get(this.id);
      // The stream brings the row soon; until then the page shows what the server has accepted.
      if (now)
        rows.hosts.set(this.id, {
          ...now,
          image: host.spec.image || "localboot",
          config: host.spec.bootConfigRef ?? "",
          phase: host.status.phase,
        });
      this.setState(null);
    } catch (refusal) {
      this.setState({ message: refusal.message });
    }
  }

  /** Shows a row's value. A drop-down in use keeps its state unless `isForced`: it may be open. */
  update(row, isForced = false) {
    if (!row) return;
    const { select } = this;
    const state = fieldStates.get(this.key);
    const inUse = document.activeElement === select;
    if (!inUse || isForced) {
      const value = state?.value ?? row[this.field] ?? "";
      const options = this.options(row, value);
      if (inUse) fillOptions(select, options, value);
      else if (select.value !== value || !select.options.length) {
        fillOptions(
          select,
          options.filter(([one]) => one === value),
          value,
        );
      }
      if (!inUse) select.disabled = options.length < 2;
    }
    setAttribute(select, "aria-busy", state?.value === undefined ? null : "true");
    setAttribute(select, "aria-invalid", state?.message ? "true" : null);
    this.bubble.hidden = !state?.message;
    setText(this.message, state?.message ?? "");
  }
}
