// The page of the timeline.

import { fillOptions } from "./dialogs.js";
import { find, keyed, setText } from "./elements.js";
import "./frame.js";
import { load, setFeed } from "./rows.js";
import { describe, entryKey, entryLine, updateEntry } from "./timeline.js";

/** Number of entries of the timeline that a page keeps. */
const MAX_ENTRIES = 2000;
/** Number of entries that are shown at a time. */
const SHOWN_ENTRIES = 300;

class ActivityPage {
  constructor() {
    this.entries = new Map();
    const query = new URLSearchParams(location.search);
    [this.query, this.event] = [query.get("q") ?? "", query.get("event") ?? ""];
    find("#search").value = this.query;
    setFeed({ rows: "?host=", stream: "&activity", listeners: { activity: (entries) => this.add(entries) } });
    const filter = (name) => (event) => {
      this[name] = event.target.value;
      const pairs = Object.entries({ q: this.query, event: this.event }).filter(([, value]) => value);
      const text = new URLSearchParams(pairs).toString();
      history.replaceState(null, "", text ? `?${text}` : location.pathname);
      this.draw();
    };
    find("#search").addEventListener("input", filter("query"));
    find("#event").addEventListener("change", filter("event"));
  }

  add(entries) {
    for (const entry of entries) this.entries.set(entryKey(entry), entry);
    const keys = [...this.entries.keys()].sort();
    for (const key of keys.slice(0, Math.max(0, keys.length - MAX_ENTRIES))) this.entries.delete(key);
    this.draw();
  }

  draw() {
    const all = [...this.entries.values()].sort((a, b) => (a.time < b.time ? 1 : -1));
    const events = [...new Set(all.map(({ event }) => event))].sort();
    if (document.activeElement !== find("#event")) {
      fillOptions(
        find("#event"),
        [
          ["", "All events"],
          ...[...new Set([...events, ...(this.event ? [this.event] : [])])].map((event) => [
            event,
            event.replaceAll("_", " "),
          ]),
        ],
        this.event,
      );
    }
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (entry) => {
      if (this.event && entry.event !== this.event) return false;
      const text = `${entry.host ?? "server"} ${entry.mac ?? ""} ${entry.event} ${describe(entry)}`.toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const found = all.filter(matches);
    keyed(find("#activity"), found.slice(0, SHOWN_ENTRIES), entryKey, entryLine(true), updateEntry);
    const shown = Math.min(found.length, SHOWN_ENTRIES);
    setText(find("#count"), shown < found.length ? `newest ${shown} of ${found.length} entries` : `${shown} entries`);
  }
}

new ActivityPage();
load();
