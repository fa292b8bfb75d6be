// The page of one host.

import { actionsOf, approve, confirmReinstall, isImage } from "./actions.js";
import { advisedActions } from "./advice.js";
import { openForm } from "./dialogs.js";
import { element, find, isAdmin, keyed, setAttribute, setText } from "./elements.js";
import { setKeys } from "./frame.js";
import { HostField, onField } from "./host_field.js";
import { powerText } from "./host_rows.js";
import { BootLanes, STAGES } from "./lanes.js";
import { hostPath, request, split } from "./requests.js";
import { load, onRows, rows, setFeed } from "./rows.js";
import { entryKey, entryLine, updateEntry } from "./timeline.js";
import { duration, exactTime, seconds, setTime } from "./times.js";

const HISTORY = [
  ["", "All"],
  [
    "install",
    "Installs",
    [
      "assigned",
      "script",
      "config_fetched",
      "boot_completed",
      "install_failed",
      "local_boot_requested",
      "held",
      "first_seen",
      "boot_finished",
    ],
  ],
  ["power", "Power", ["power", "power_switched", "wake_on_lan_sent", "boot_device_set", "bmc_failed"]],
  ["installer", "Installer", ["installer"]],
  [
    "trouble",
    "Trouble",
    ["refused", "warning", "stalled", "stall_cleared", "read_failed", "install_failed", "bmc_failed"],
  ],
];

class HostPage {
  constructor() {
    this.id = find("#host").dataset.id;
    this.kind = new URLSearchParams(location.search).get("show") ?? "";
    this.entries = [];
    const query = `host=${encodeURIComponent(this.id)}`;
    setFeed({ rows: `?${query}`, stream: `&${query}`, listeners: { host: (news) => this.show(news) } });
    if (isAdmin) this.fields = ["image", "config"].map((field) => new HostField(this.id, field));
    this.makeTarget();
    this.makeHistory();
    find("#rehearse").addEventListener("click", (event) => this.rehearse(event.target));
    find("#object").addEventListener("toggle", () => this.showObject());
    onRows((change) => this.update(change));
    onField(() => this.update(null));
    this.lanes = new BootLanes(find("#boot"));
  }

  get row() {
    return rows.hosts.get(this.id);
  }

  makeTarget() {
    const part = (label, elements) =>
      element(
        "label",
        { class: "field" },
        element("span", {}, label),
        element("span", { class: "value" }, ...elements),
      );
    this.values = ["image", "config"].map(() => element("span"));
    const elements = (at) => (isAdmin ? this.fields[at].elements : [this.values[at]]);
    this.note = element("p", { class: "hint" });
    find("#target").append(part("ISO", elements(0)), part("Config", elements(1)), this.note);
  }

  update(change) {
    const row = this.row;
    if (change?.goneHosts?.includes(this.id)) return this.showGone();
    if (!row || (change && !change.hosts?.some(({ id }) => id === this.id) && !change.images && !change.configs))
      return;
    setText(find("#phase"), row.phase);
    setAttribute(find("#phase"), "data-phase", row.phase);
    setText(find("#power"), powerText(row));
    setAttribute(find("#power"), "data-power", row.target ? "changing" : (row.power ?? ""));
    keyed(
      find("#facts"),
      this.facts(row),
      ([name]) => name,
      ([name]) => element("span", { title: name }),
      (shown, [, value]) => {
        if (typeof value === "string") setText(shown, value);
        else {
          if (!shown.firstChild) shown.append("seen ", element("time"));
          setTime(shown.lastChild, value);
        }
      },
    );
    if (isAdmin) this.fields.forEach((field) => field.update(row));
    else [row.image, row.config || "none"].forEach((value, at) => setText(this.values[at], value));
    setText(this.note, row.stall ? "" : (row.note ?? ""));
    this.showActions(row);
    this.showDiagnosis(row);
    this.showObjectSoon();
  }

  facts(row) {
    const found = [["MAC address", row.mac]];
    if (row.address) found.push(["address", row.address]);
    if (row.firmware) found.push(["firmware", row.firmware]);
    if (row.transition) found.push(["power change", row.transition]);
    if (row.forever) found.push(["boot mode", "every boot"]);
    if (row.seen) found.push(["last request", row.seen]);
    return found;
  }

  showActions(row) {
    if (!isAdmin) return;
    const make = ([title, , kind]) =>
      element(
        "button",
        { type: "button", class: kind, onclick: () => actionsOf(this.row).find(([one]) => one === title)?.[1]() },
        title,
      );
    keyed(find("#actions"), actionsOf(row), ([title]) => title, make);
  }

  showDiagnosis(row) {
    const box = find("#diagnosis");
    box.hidden = !row.stall;
    if (!row.stall) return box.replaceChildren();
    if (!box.firstChild) {
      box.append(
        element("h2"),
        element("p", { class: "certainty" }, element("b"), ", since ", element("time")),
        element("p"),
        element("p", { class: "remedy" }),
        element("div", { class: "advised" }),
      );
    }
    const [title, certainty, message, remedy, advised] = box.children;
    setText(title, row.stall.title[0].toUpperCase() + row.stall.title.slice(1));
    setText(certainty.firstChild, row.stall.certainty);
    setTime(certainty.lastChild, row.stall.since);
    setText(message, row.stall.message);
    setText(remedy, row.stall.remedy);
    box.dataset.certainty = row.stall.certainty;
    const make = ([name, act]) =>
      typeof act === "string"
        ? element("a", { href: act }, name)
        : element(
            "button",
            { type: "button", onclick: () => advisedActions(this.row, isAdmin).find(([one]) => one === name)?.[1]() },
            name,
          );
    keyed(advised, advisedActions(row, isAdmin), ([name]) => name, make);
  }

  showGone() {
    find("#host").replaceChildren(
      element("h1", {}, split(this.id).name),
      element("p", {}, "This host was deleted. ", element("a", { href: "/ui/hosts" }, "All hosts")),
    );
  }

  show({ diagnosis, timeline }) {
    this.entries = timeline;
    this.ledgers = diagnosis.ledger;
    this.lanes.show(this.ledgers.at(-1), diagnosis.steps, timeline);
    this.drawLedgers();
    this.drawHistory();
  }

  // The ledgers

  drawLedgers() {
    find("#ledger").hidden = !this.ledgers.length;
    const newest = [...this.ledgers].reverse();
    keyed(
      find("#ledgers"),
      newest,
      ({ begin }) => begin,
      (ledger) => this.makeLedger(ledger, ledger === newest[0]),
      (shown, ledger) => this.fillLedger(shown, ledger),
    );
  }

  makeLedger(ledger, isOpen) {
    const heads = ["Stage", "Start", "Time", "Share", "Note"].map((title) =>
      element("th", { scope: "col", class: title === "Time" ? "number" : null }, title),
    );
    const table = element(
      "table",
      { class: "plain" },
      element("thead", {}, element("tr", {}, ...heads)),
      element("tbody"),
    );
    return element("details", { open: isOpen }, element("summary"), table, element("ul", { class: "advice" }));
  }

  fillLedger(shown, ledger) {
    const [summary, table, advice] = shown.children;
    setText(
      summary,
      `Boot of ${exactTime(seconds(ledger.begin))}: ${ledger.outcome ? `${ledger.outcome.replaceAll("_", " ")} after` : "goes on since"} ${duration(ledger.milliseconds / 1000)}`,
    );
    const make = () =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }),
        element("td"),
        element("td", { class: "number" }),
        element("td", { class: "share" }, element("i")),
        element("td", { class: "wrap" }),
      );
    keyed(
      table.tBodies[0],
      ledger.stages,
      ({ start, stage }) => `${start} ${stage}`,
      make,
      (line, stage) => {
        const [name, start, time, share, note] = line.children;
        setText(name, STAGES[stage.stage]);
        setText(start, new Date(stage.start).toLocaleTimeString());
        setText(time, `${(stage.milliseconds / 1000).toFixed(1)} s`);
        share.firstChild.style.width = `${(100 * stage.milliseconds) / Math.max(1, ledger.milliseconds)}%`;
        setText(note, stage.note ?? "");
      },
    );
    keyed(
      advice,
      ledger.advice,
      (text) => text,
      (text) => element("li", {}, `To save: ${text}`),
    );
  }

  // The history

  makeHistory() {
    const make = ([kind, title]) => element("button", { type: "button", onclick: () => this.showKind(kind) }, title);
    keyed(find("#history-kind"), HISTORY, ([kind]) => kind || "all", make);
    this.showKind(this.kind, false);
  }

  showKind(kind, isChosen = true) {
    this.kind = kind;
    if (isChosen) history.replaceState(null, "", kind ? `?show=${kind}` : location.pathname);
    for (const button of find("#history-kind").children)
      setAttribute(button, "aria-pressed", String(button.dataset.key === (kind || "all")));
    this.drawHistory();
  }

  drawHistory() {
    const events = HISTORY.find(([kind]) => kind === this.kind)?.[2];
    const shown = this.entries.filter(({ event }) => !events || events.includes(event)).reverse();
    keyed(find("#history"), shown, entryKey, entryLine(false), updateEntry);
    find("#history").dataset.empty = shown.length ? "" : "Nothing happened yet.";
  }

  // Rehearsal and object

  async rehearse(button) {
    const box = find("#rehearsal");
    button.disabled = true;
    try {
      const { boots } = await request("GET", `${hostPath(this.id)}/rehearsal`);
      box.replaceChildren(...boots.map((boot) => this.rehearsedBoot(boot)));
    } catch (refusal) {
      box.replaceChildren(element("p", { class: "error", role: "alert" }, refusal.message));
    }
    button.disabled = false;
  }

  rehearsedBoot(boot) {
    const step = ({ step: name, isReached, decision, dhcp, ...parts }) => {
      const files = parts.config?.files?.map(({ name: file, text }) => `${file}:\n${text}`).join("\n\n");
      const content = parts.script?.text ?? files ?? null;
      const more = { ...(dhcp?.reply ? { reply: { ...dhcp.reply, hex: undefined } } : {}), ...parts };
      return element(
        "li",
        { class: isReached ? "" : "unreached" },
        element("b", {}, name.replaceAll("_", " ")),
        element("span", { class: "what" }, isReached ? decision.message : `not reached: ${decision.message}`),
        element(
          "details",
          {},
          element("summary", {}, "What is sent"),
          element("pre", { tabindex: 0 }, content ?? JSON.stringify(more, null, 2)),
        ),
      );
    };
    return element(
      "div",
      { class: "rehearsed" },
      element("h3", {}, boot.architecture),
      ...boot.assumptions.map((text) => element("p", { class: "hint" }, `Assumed: ${text}`)),
      element("ol", { class: "log steps" }, ...boot.steps.map(step)),
    );
  }

  /** Opens an editor for the whole object. A change of somebody else meanwhile is a conflict, which the server reports. */
  async editObject() {
    const object = await request("GET", hostPath(this.id));
    delete object.metadata.managedFields;
    const text = element("textarea", {
      class: "code",
      name: "text",
      "aria-label": "Object",
      spellcheck: "false",
      wrap: "off",
    });
    text.value = JSON.stringify(object, null, 2);
    openForm({
      title: `Edit ${split(this.id).name}`,
      intro: "The status is the server's: changes of it are left out.",
      fields: [text],
      action: "Save",
      submit: (values) => request("PUT", hostPath(this.id), JSON.parse(values.text)),
    });
  }

  showObjectSoon() {
    clearTimeout(this.objectTimer);
    if (find("#object").open) this.objectTimer = setTimeout(() => this.showObject(), 500);
  }

  async showObject() {
    const box = find("#object");
    if (!box.open) return;
    const { namespace, name } = split(this.id);
    const [row, content] = [this.row, box.lastElementChild];
    let text;
    let hasConsole = false;
    try {
      const object = await request("GET", hostPath(this.id));
      text = JSON.stringify(object, null, 2);
      hasConsole = isAdmin && object.spec.bmc?.console === true;
    } catch (refusal) {
      text = refusal.message;
    }
    const spec = JSON.stringify({ spec: { image: row?.image, bootConfigRef: row?.config ?? "" } });
    const commands = [
      ["Read it", `kubectl -n ${namespace} get baremetalhost ${name} -o yaml`, `bootlatch get host ${name} -o yaml`],
      [
        "Boot this ISO with this config",
        `kubectl -n ${namespace} patch baremetalhost ${name} --type merge -p '${spec}'`,
        `bootlatch host assign ${name} --image ${row?.image}${row?.config ? ` --config ${row.config}` : " --no-config"}`,
      ],
      [
        "Why it does not boot",
        `kubectl -n ${namespace} get baremetalhost ${name} -o jsonpath='{.status.stall}'`,
        `bootlatch host why ${name}`,
      ],
      ["What it would get", "", `bootlatch rehearse ${name}`],
    ];
    if (!content.firstChild) {
      const edit = element("button", { type: "button", onclick: () => this.editObject() }, "Edit …");
      content.append(
        element("dl", { class: "commands" }),
        isAdmin ? edit : "",
        element("a", { href: `${hostPath(this.id)}/console`, target: "_blank", rel: "noopener" }, "Serial console"),
        element("pre", { tabindex: 0, "aria-label": "Object as JSON" }),
      );
    }
    content.querySelector("a").hidden = !hasConsole;
    const make = ([title]) => element("div", {}, element("dt", {}, title), element("dd"));
    keyed(
      content.firstChild,
      commands,
      ([title]) => title,
      make,
      (part, [, ...lines]) => {
        keyed(
          part.lastChild,
          lines.filter(Boolean),
          (line) => line,
          (line) => element("code", {}, line),
        );
      },
    );
    setText(content.lastChild, text);
  }
}

const shown = new HostPage();
setKeys((key) => {
  if (!isAdmin || !shown.row) return false;
  if (key === "a") approve(shown.row);
  else if (key === "r" && isImage(shown.row.image)) confirmReinstall([shown.row]);
  else return false;
  return true;
});
load();
