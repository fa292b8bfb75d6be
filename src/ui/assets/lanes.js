// The boot of a host as lanes.

import { element, keyed, setAttribute, setText } from "./elements.js";
import { describe, entryKey } from "./timeline.js";
import { ago, duration, exactTime, seconds, serverNow, showCountdown, size, timeElement } from "./times.js";

/** The lanes of a boot: the stages of the ledger and the events of the timeline that belong to each. */
const LANES = [
  ["Power", ["power"], ["power", "power_switched", "wake_on_lan_sent", "boot_device_set", "bmc_failed"]],
  ["DHCP", ["other_interface", "ipv6", "unheard", "dhcp"], ["offer", "other_dhcp_server"]],
  ["TFTP", ["program", "program_start"], ["tftp_started", "tftp_completed"]],
  ["HTTP", ["script", "wait"], ["script", "waiting_for_image"]],
  ["iSCSI", ["loader", "kernel"], ["iscsi_login", "iscsi_redirect", "read_failed"]],
  ["Config", ["install"], ["config_fetched", "installer"]],
  ["Done", ["system"], ["boot_completed", "local_disk", "install_failed"]],
];

export const STAGES = {
  power: "power on",
  other_interface: "other interface first",
  ipv6: "IPv6 first",
  unheard: "not heard",
  dhcp: "DHCP",
  program: "boot program",
  program_start: "program starts",
  script: "boot script",
  wait: "waiting",
  loader: "boot loader",
  kernel: "kernel",
  install: "installer",
  system: "installed system",
};

/** The lanes of the last boot of a host, and what was seen of it. */
export class BootLanes {
  constructor(box) {
    this.box = box;
    setInterval(() => !document.hidden && this.boot && !this.boot.outcome && this.draw(), 1000);
  }

  /** Takes the ledger of a boot, its steps, and the timeline. */
  show(boot, steps, entries) {
    [this.boot, this.steps, this.entries] = [boot, steps, entries];
    this.draw();
  }

  draw() {
    if (!this.boot) return;
    const { boot } = this;
    const { box } = this;
    if (!this.lanes) {
      this.lanes = element("div", { class: "lanes", role: "table", "aria-label": "Stages of the last boot" });
      this.summary = element("p", { class: "hint" });
      this.next = element("p", { class: "next" }, element("span"), " ", element("b", { data: { due: "" } }));
      this.seen = element("ol", { class: "log steps" });
      box.replaceChildren(
        this.summary,
        this.lanes,
        this.next,
        element("details", {}, element("summary", {}, "What was seen"), this.seen),
      );
    }
    const isOver = Boolean(boot.outcome);
    const begin = seconds(boot.begin);
    const end = isOver ? seconds(boot.end) : Math.max(serverNow(), seconds(boot.end));
    const due = boot.next?.due ? seconds(boot.next.due) : null;
    // A step that may take an hour must not squeeze the seconds before it.
    const ahead = Math.min(Math.max(0, (due ?? 0) - end), 5 + (end - begin) / 2);
    const span = Math.max(1, end + ahead - begin);
    setText(
      this.summary,
      `${isOver ? `${boot.outcome.replaceAll("_", " ")} after` : "goes on since"} ${duration(end - begin)}, begun ${exactTime(begin)}`,
    );
    keyed(
      this.lanes,
      LANES,
      ([name]) => name,
      ([name]) => this.makeLane(name),
      (lane, [, stages, events]) => this.drawLane(lane, stages, events, { begin, end, span, due, isOver }),
    );
    this.next.hidden = isOver || !boot.next;
    if (boot.next) {
      setText(this.next.firstChild, `Next: it ${boot.next.text}.`);
      const shown = this.next.lastChild;
      shown.hidden = due == null;
      if (due != null) {
        shown.dataset.due = due;
        showCountdown(shown);
      }
    }
    keyed(
      this.seen,
      this.steps,
      ({ first, text }) => `${first} ${text}`,
      ({ first, text }) =>
        element(
          "li",
          {},
          timeElement(seconds(first)),
          element("span", { class: "what" }, text),
          element("span", { class: "hint" }),
        ),
      (line, { count, last }) => {
        setText(line.lastChild, count > 1 ? `${count} times, last ${ago(seconds(last))}` : "");
      },
    );
  }

  makeLane(name) {
    return element(
      "div",
      { class: "lane", role: "row" },
      element("span", { class: "name", role: "rowheader" }, name),
      element("span", { class: "track", role: "cell", "aria-hidden": "true" }),
      element("span", { class: "time", role: "cell" }),
    );
  }

  drawLane(lane, stages, events, { begin, end, span, due, isOver }) {
    const [, track, time] = lane.children;
    const { boot } = this;
    const percent = (value) => `${Math.max(0, Math.min(100, (value / span) * 100)).toFixed(2)}%`;
    const own = boot.stages.filter(({ stage }) => stages.includes(stage));
    const running = isOver ? null : boot.stages.at(-1);
    const bars = own.map((stage) => {
      const start = seconds(stage.start);
      const length = stage === running ? end - start : stage.milliseconds / 1000;
      return {
        key: `bar ${stage.start} ${stage.stage}`,
        kind: stage === running ? "bar running" : "bar",
        left: start - begin,
        length,
        title: `${STAGES[stage.stage]}: ${duration(length)}${stage.note ? `, ${stage.note}` : ""}`,
      };
    });
    const marks = this.entries
      .filter(
        (entry) =>
          events.includes(entry.event) && seconds(entry.time) >= begin - 0.5 && seconds(entry.time) <= end + 0.5,
      )
      .map((entry) => ({
        key: `mark ${entryKey(entry)}`,
        kind: `mark ${entry.event}`,
        left: seconds(entry.time) - begin,
        title: describe(entry),
      }));
    const ghost =
      !isOver && boot.next && stages.includes(boot.next.stage) && due > end
        ? [{ key: "ghost", kind: "ghost", left: end - begin, length: due - end, title: `it ${boot.next.text}` }]
        : [];
    keyed(
      track,
      [...bars, ...ghost, ...marks],
      ({ key }) => key,
      () => element("i"),
      (shown, { kind, left, length, title }) => {
        setAttribute(shown, "class", kind);
        setAttribute(shown, "title", title);
        // The next step may be due long after the end of the scale.
        const [x, width] = [percent(left), length == null ? "" : percent(Math.min(length, Math.max(0, span - left)))];
        if (shown.style.left !== x) shown.style.left = x;
        if (shown.style.width !== width) shown.style.width = width;
      },
    );
    const total = bars.reduce((sum, { length }) => sum + length, 0);
    const bytes = boot.traffic?.[lane.dataset.key.toLowerCase()] ?? 0;
    const precise = total < 10 ? `${total.toFixed(1)} s` : duration(total);
    setText(
      time,
      [bars.length ? precise : marks.length ? "seen" : "", bytes ? size(bytes) : ""].filter(Boolean).join(" · "),
    );
    lane.classList.toggle("idle", !bars.length && !marks.length && !ghost.length);
  }
}
