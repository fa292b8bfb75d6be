// The page of all hosts.

import {
  actionsOf,
  addHost,
  approve,
  configOptions,
  confirmReinstall,
  hold,
  ignore,
  imageOptions,
  isImage,
  release,
} from "./actions.js";
import { bulk, perform } from "./bulk.js";
import { fillOptions, labelled, openForm, openMenu } from "./dialogs.js";
import { element, find, findAll, isAdmin, setAttribute, setText } from "./elements.js";
import { setKeys } from "./frame.js";
import { HostField, onField } from "./host_field.js";
import { PHASES, groupOf, powerText, why } from "./host_rows.js";
import { drawNeeds, firstSteps } from "./needs.js";
import { powerOf } from "./power.js";
import { hostPage, hostPath, patch, split } from "./requests.js";
import { collator, load, onRows, rows, sortedIds } from "./rows.js";
import { exactTime, setTime } from "./times.js";

/** The table of all hosts. Only the rows in view are elements. */
class HostTable {
  constructor() {
    this.scroll = find("#scroll");
    this.body = find("#rows");
    this.above = this.body.appendChild(
      element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", { colspan: 10 })),
    );
    this.below = this.body.appendChild(
      element("tr", { class: "spacer", "aria-hidden": "true" }, element("td", { colspan: 10 })),
    );
    this.shown = new Map();
    this.view = [];
    this.selected = new Set();
    this.texts = new Map();
    this.ranks = new Map();
    this.ordered = [];
    this.cursor = null;
    this.readLocation();
    this.listen();
  }

  readLocation() {
    const query = new URLSearchParams(location.search);
    this.query = query.get("q") ?? "";
    this.phase = query.get("phase") ?? "";
    this.power = query.get("power") ?? "";
    this.group = query.get("need") ?? "";
    this.sort = query.get("sort") ?? "id";
    find("#search").value = this.query;
    fillOptions(find("#phase"), [["", "All phases"], ...PHASES.map((phase) => [phase, phase])], this.phase);
    find("#power").value = this.power;
  }

  writeLocation() {
    const query = new URLSearchParams();
    const pairs = {
      q: this.query,
      phase: this.phase,
      power: this.power,
      need: this.group,
      sort: this.sort === "id" ? "" : this.sort,
    };
    for (const [name, value] of Object.entries(pairs)) if (value) query.set(name, value);
    const text = query.toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
  }

  listen() {
    const filter = (name) => (event) => {
      this[name] = event.target.value;
      this.changeFilter();
    };
    find("#search").addEventListener("input", filter("query"));
    find("#phase").addEventListener("change", filter("phase"));
    find("#power").addEventListener("change", filter("power"));
    find("#add-host").hidden = !isAdmin;
    find("#add-host").addEventListener("click", addHost);
    find("#all").addEventListener("change", (event) => this.selectAll(event.target.checked));
    for (const head of findAll("[data-sort]")) {
      find("button", head).addEventListener("click", () => {
        const key = head.dataset.sort;
        this.sort = this.sort === key ? `-${key}` : key;
        this.changeFilter();
      });
    }
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    // While a drop-down is in use, the rows keep their places.
    this.body.addEventListener("focusout", () => setTimeout(() => this.isStale && !this.isFrozen() && this.refresh()));
    window.addEventListener("popstate", () => {
      this.readLocation();
      this.refresh();
    });
    onRows((change) => this.update(change));
    onField((id) => this.fillById(id));
  }

  changeFilter() {
    this.writeLocation();
    this.refresh();
    this.scroll.scrollTop = 0;
  }

  isFrozen() {
    return document.activeElement?.tagName === "SELECT" && this.body.contains(document.activeElement);
  }

  /** Takes changed rows: draws those in view, and sorts and filters again where that may differ. */
  update(change) {
    const changed = change ? (change.hosts ?? []) : [...rows.hosts.values()];
    const gone = change ? (change.goneHosts ?? []) : [];
    let isOtherView = !change || gone.length > 0;
    for (const id of gone) [this.texts, this.ranks, this.selected].forEach((one) => one.delete(id));
    for (const row of changed) {
      this.texts.delete(row.id);
      isOtherView ||= !this.ranks.has(row.id) || this.keyChanged(row);
    }
    if (!change) this.rank(sortedIds(rows.hosts));
    else if (gone.length || changed.some((row) => !this.ranks.has(row.id))) this.insert(changed);
    if (changed.length || gone.length) drawNeeds(this.group, (key) => this.toggleGroup(key));
    if (isOtherView && !this.isFrozen()) this.refresh();
    else {
      this.isStale ||= isOtherView;
      const touched = change?.images ? this.shown.keys() : changed.map((row) => row.id);
      for (const id of touched) if (this.shown.has(id)) this.fill(this.shown.get(id), rows.hosts.get(id));
    }
  }

  /** Returns whether a row's place may have changed: its filter, or what it is sorted by. */
  keyChanged(row) {
    const key = `${this.matches(row)} ${this.sortKey(row, this.sort.replace("-", ""))}`;
    const before = this.keys?.get(row.id);
    return before !== key;
  }

  /** Takes the ids of all hosts in the order of their names. */
  rank(ordered) {
    this.ordered = ordered;
    this.ranks = new Map(ordered.map((id, at) => [id, at]));
  }

  /** Puts the ids of new rows in their places, and leaves out those that are gone: cheaper than to sort all again. */
  insert(changed) {
    const ordered = this.ordered.filter((id) => rows.hosts.has(id));
    for (const { id } of changed) {
      if (this.ranks.has(id)) continue;
      let [low, high] = [0, ordered.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (collator.compare(ordered[middle], id) < 0) low = middle + 1;
        else high = middle;
      }
      ordered.splice(low, 0, id);
    }
    this.rank(ordered);
  }

  text(row) {
    let text = this.texts.get(row.id);
    if (text === undefined) {
      text = [row.id, row.mac, row.image, row.config, row.phase, row.address, row.firmware, why(row), row.stall?.reason]
        .join(" ")
        .toLowerCase();
      this.texts.set(row.id, text);
    }
    return text;
  }

  matches(row) {
    if (this.phase && row.phase !== this.phase) return false;
    if (this.power && row.power !== this.power) return false;
    if (this.group && groupOf(row) !== this.group) return false;
    if (!this.query) return true;
    const text = this.text(row);
    return this.query
      .toLowerCase()
      .split(/\s+/)
      .every((word) => text.includes(word));
  }

  sortKey(row, key) {
    switch (key) {
      case "phase":
        return PHASES.indexOf(row.phase);
      case "power":
        return ["on", "off", "unknown"].indexOf(row.power);
      case "boot":
        return -(row.boot ?? 0);
      case "why":
        return why(row) || "\uffff";
      case "id":
        return this.ranks.get(row.id) ?? 0;
      default:
        return row[key] || "\uffff";
    }
  }

  /** Filters and sorts all rows, and draws them. */
  refresh() {
    this.isStale = false;
    const descending = this.sort.startsWith("-");
    const key = this.sort.replace("-", "");
    const found = [];
    this.keys = new Map();
    for (const row of rows.hosts.values()) {
      const [matches, own] = [this.matches(row), this.sortKey(row, key)];
      this.keys.set(row.id, `${matches} ${own}`);
      if (matches) found.push([own, this.ranks.get(row.id), row.id]);
    }
    const sign = descending ? -1 : 1;
    found.sort(([a, i], [b, j]) => (a < b ? -sign : a > b ? sign : i - j));
    this.view = found.map(([, , id]) => id);
    for (const head of findAll("[data-sort]")) {
      const is = head.dataset.sort === key;
      setAttribute(head, "aria-sort", is ? (descending ? "descending" : "ascending") : null);
    }
    const total = rows.hosts.size;
    setText(find("#count"), this.view.length === total ? `${total} hosts` : `${this.view.length} of ${total} hosts`);
    this.drawChip();
    const empty = find("#empty");
    empty.hidden = this.view.length > 0;
    if (total) empty.replaceChildren("No host matches.");
    else if (!find("ol", empty)) empty.replaceChildren(firstSteps());
    setAttribute(find("#hosts"), "aria-rowcount", this.view.length + 1);
    this.draw();
    this.drawBulk();
  }

  rowHeight() {
    return parseFloat(getComputedStyle(this.scroll).getPropertyValue("--row")) || 36;
  }

  /** Makes the rows in view elements, and removes the others; the row that has the focus stays. */
  draw() {
    const height = this.rowHeight();
    const visible = Math.ceil(this.scroll.clientHeight / height);
    const spare = Math.min(8, Math.ceil(visible / 3));
    const first = Math.max(0, Math.min(Math.floor(this.scroll.scrollTop / height) - spare, this.view.length - 1));
    const last = Math.min(this.view.length, first + visible + 2 * spare);
    const wanted = this.view.slice(first, last);
    let [above, below] = [first, this.view.length - last];
    const focused = document.activeElement?.closest?.("#rows tr[data-id]");
    if (focused && !wanted.includes(focused.dataset.id)) {
      const at = this.view.indexOf(focused.dataset.id);
      if (at >= 0 && at < first) [above] = [above - 1, wanted.unshift(focused.dataset.id)];
      else if (at >= last) [below] = [below - 1, wanted.push(focused.dataset.id)];
    }
    const keep = new Set(wanted);
    for (const [id, line] of this.shown) {
      if (keep.has(id)) continue;
      line.remove();
      this.shown.delete(id);
    }
    let next = this.above.nextSibling;
    for (const id of wanted) {
      let line = this.shown.get(id);
      if (!line) {
        line = this.make(id);
        this.shown.set(id, line);
      }
      this.fill(line, rows.hosts.get(id));
      if (line === next) next = next.nextSibling;
      else if (line === focused) {
        // The row with the focus is never moved: that would close its drop-down. The others move around it.
        while (next !== line) {
          const passed = next;
          next = next.nextSibling;
          this.body.insertBefore(passed, this.below);
        }
        next = next.nextSibling;
      } else this.body.insertBefore(line, next);
    }
    const place = (spacer, count) => {
      const text = `${count * height}px`;
      if (spacer.firstChild.style.height !== text) spacer.firstChild.style.height = text;
    };
    place(this.above, above);
    place(this.below, below);
    wanted.forEach((id) =>
      setAttribute(this.shown.get(id), "aria-rowindex", this.view.indexOf(id, Math.max(0, first - 1)) + 2),
    );
  }

  make(id) {
    const line = element("tr", { data: { id } });
    const cells = {
      pick: element("input", {
        type: "checkbox",
        "aria-label": `Select ${split(id).name}`,
        onchange: (event) => this.select(id, event.target.checked),
      }),
      link: element("a", { href: hostPage(id) }, split(id).name),
      badge: element("span", { class: "badge" }),
      mac: element("code"),
      phase: element("span", { class: "phase" }),
      power: element("span", { class: "power" }),
      boot: element("time"),
      why: element("span", { class: "why" }),
    };
    line.cells_ = cells;
    for (const field of ["image", "config"]) cells[field] = isAdmin ? new HostField(id, field) : element("span");
    const actions = element(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-haspopup": "menu",
        "aria-expanded": "false",
        "aria-label": `Actions for ${split(id).name}`,
        onclick: (event) => openMenu(event.currentTarget, actionsOf(rows.hosts.get(id))),
      },
      "⋯",
    );
    const cell = (label, ...children) => element("td", { data: { label } }, ...children);
    line.append(
      element("td", { class: "pick" }, isAdmin ? cells.pick : ""),
      element("th", { scope: "row" }, cells.link, cells.badge),
      cell("MAC", cells.mac),
      cell("ISO", ...(isAdmin ? cells.image.elements : [cells.image])),
      cell("Config", ...(isAdmin ? cells.config.elements : [cells.config])),
      cell("Phase", cells.phase),
      cell("Power", cells.power),
      cell("Last boot", cells.boot),
      cell("Why", cells.why),
      element("td", { class: "actions" }, isAdmin ? actions : ""),
    );
    line.addEventListener("focusin", () => this.setCursor(id, false));
    return line;
  }

  fillById(id) {
    const line = this.shown.get(id);
    if (line) this.fill(line, rows.hosts.get(id));
  }

  /** Sets the cells of a row that differ. */
  fill(line, row) {
    if (!row) return;
    const cells = line.cells_;
    const isSelected = this.selected.has(row.id);
    if (cells.pick.checked !== isSelected) cells.pick.checked = isSelected;
    line.classList.toggle("new", Boolean(row.isNew));
    line.classList.toggle("stalled", Boolean(row.stall) || row.phase === "Failed");
    line.classList.toggle("cursor", this.cursor === row.id);
    setText(cells.badge, row.isNew ? "new" : row.forever ? "every boot" : "");
    setText(cells.mac, row.mac);
    setText(cells.phase, row.phase);
    setAttribute(cells.phase, "data-phase", row.phase);
    setAttribute(cells.phase, "title", row.since ? `since ${exactTime(row.since)}` : null);
    setText(cells.power, powerText(row));
    setAttribute(cells.power, "title", row.transition);
    setAttribute(cells.power, "data-power", row.target ? "changing" : (row.power ?? ""));
    setTime(cells.boot, row.boot);
    setText(cells.why, why(row));
    setAttribute(cells.why, "title", row.stall ? `${row.stall.message} ${row.stall.remedy}` : row.note);
    setAttribute(cells.why, "data-certainty", row.stall?.certainty);
    for (const field of ["image", "config"]) {
      if (isAdmin) cells[field].update(row);
      else setText(cells[field], row[field] ?? "");
    }
  }

  /** Shows the hosts of a group, and selects them. */
  toggleGroup(key) {
    this.group = this.group === key ? "" : key;
    this.selected.clear();
    this.changeFilter();
    if (this.group && isAdmin) this.selectAll(true);
    drawNeeds(this.group, (key) => this.toggleGroup(key));
  }

  drawChip() {
    const chip = find("#filter-chip");
    if (!this.group) return chip.replaceChildren();
    if (chip.dataset.group === this.group && chip.firstChild) return;
    chip.dataset.group = this.group;
    const clear = element(
      "button",
      { type: "button", class: "chip", onclick: () => this.toggleGroup(this.group) },
      `${this.group.replaceAll("_", " ")} ×`,
    );
    clear.setAttribute("aria-label", `Remove the filter ${this.group}`);
    chip.replaceChildren(clear);
  }

  // Selection

  select(id, isSelected) {
    this.selected[isSelected ? "add" : "delete"](id);
    this.drawBulk();
  }

  selectAll(isSelected) {
    this.view.forEach((id) => this.selected[isSelected ? "add" : "delete"](id));
    for (const [id, line] of this.shown) line.cells_.pick.checked = this.selected.has(id);
    this.drawBulk();
  }

  chosen() {
    return [...this.selected].map((id) => rows.hosts.get(id)).filter(Boolean);
  }

  drawBulk() {
    const bar = find("#bulk");
    const all = find("#all");
    const inView = this.view.filter((id) => this.selected.has(id)).length;
    all.hidden = !isAdmin;
    all.checked = inView > 0 && inView === this.view.length;
    all.indeterminate = inView > 0 && inView < this.view.length;
    if (!this.selected.size || !isAdmin) {
      bar.hidden = true;
      return;
    }
    if (!bar.firstChild) this.makeBulk(bar);
    setText(bar.firstChild, `${this.selected.size} selected`);
    bar.hidden = false;
  }

  makeBulk(bar) {
    const button = (title, action, kind) => element("button", { type: "button", class: kind, onclick: action }, title);
    const run = (done, action) => () => bulk(this.chosen(), done, action);
    bar.append(
      element("strong"),
      button("Assign …", () => this.assignMany()),
      button("Reinstall …", () => confirmReinstall(this.chosen()), "danger"),
      button("Release", run("released", release)),
      button("Hold", run("held", hold)),
      button("Power …", (event) => openMenu(event.currentTarget, powerOf(this.chosen()))),
      button("Clear selection", () => (this.selected.clear(), this.draw(), this.drawBulk()), "quiet"),
    );
  }

  assignMany() {
    const image = element("select", { name: "image" });
    const config = element("select", { name: "config" });
    const update = () => {
      fillOptions(config, configOptions(image.value, ""), "");
      config.disabled = config.options.length < 2;
    };
    fillOptions(image, imageOptions(), sortedIds(rows.images)[0] ?? "localboot");
    image.addEventListener("change", update);
    update();
    const chosen = this.chosen();
    openForm({
      title: `Assign to ${chosen.length} ${chosen.length === 1 ? "host" : "hosts"}`,
      fields: [labelled("ISO", image), labelled("Config", config)],
      action: "Assign",
      submit: ({ image: target, config: ref }) =>
        bulk(chosen, "assigned", (row) =>
          patch(hostPath(row.id), { spec: { image: target, bootConfigRef: ref ?? "" } }),
        ),
    });
  }

  // Keyboard

  setCursor(id, moves = true) {
    if (this.cursor === id) return;
    this.shown.get(this.cursor)?.classList.remove("cursor");
    this.cursor = id;
    this.shown.get(id)?.classList.add("cursor");
    if (!moves) return;
    const [at, height] = [this.view.indexOf(id), this.rowHeight()];
    const head = find("thead", this.scroll).offsetHeight;
    const [top, bottom] = [at * height, (at + 1) * height + head];
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (bottom > this.scroll.scrollTop + this.scroll.clientHeight)
      this.scroll.scrollTop = bottom - this.scroll.clientHeight;
    this.draw();
    find("a", this.shown.get(id))?.focus({ preventScroll: true });
  }

  move(step) {
    if (!this.view.length) return;
    const at = this.view.indexOf(this.cursor);
    const next = at < 0 ? 0 : Math.max(0, Math.min(this.view.length - 1, at + step));
    this.setCursor(this.view[next]);
  }

  key(name) {
    const row = rows.hosts.get(this.cursor);
    if (name === "j") this.move(1);
    else if (name === "k") this.move(-1);
    else if (!row || !isAdmin) return false;
    else if (name === "x") {
      this.select(row.id, !this.selected.has(row.id));
      this.fillById(row.id);
    } else if (name === "a") approve(row);
    else if (name === "i" && row.isNew) perform(row, "ignored", ignore);
    else if (name === "r" && isImage(row.image)) confirmReinstall([row]);
    else return false;
    return true;
  }
}

const table = new HostTable();
setKeys((key) => table.key(key));
load();
