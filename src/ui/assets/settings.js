// The page of the settings in force.

import { toast } from "./dialogs.js";
import { element, find, keyed, setText } from "./elements.js";
import "./frame.js";
import { request } from "./requests.js";
import { load, setFeed } from "./rows.js";

async function showSettings() {
  setFeed({ rows: "?host=" });
  const query = new URLSearchParams(location.search);
  const [search, changed] = [find("#search"), find("#changed")];
  [search.value, changed.checked] = [query.get("q") ?? "", query.has("set")];
  let items = [];
  const draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = ({ key, value, origin }) =>
      (!changed.checked || origin !== "default") &&
      words.every((word) => `${key} ${value} ${origin}`.toLowerCase().includes(word));
    const found = items.filter(matches);
    const make = ({ key, value, origin }) =>
      element(
        "tr",
        { class: origin === "default" ? "" : "set" },
        element("th", { scope: "row" }, element("code", {}, key)),
        element("td", { class: "wrap" }, element("code", {}, value)),
        element("td", { class: "wrap" }, origin),
      );
    keyed(find("#setting-rows"), found, ({ key }) => key, make);
    setText(
      find("#count"),
      found.length === items.length ? `${items.length} settings` : `${found.length} of ${items.length} settings`,
    );
  };
  const filter = () => {
    const pairs = [
      ["q", search.value],
      ["set", changed.checked ? "yes" : ""],
    ].filter(([, value]) => value);
    const text = new URLSearchParams(pairs).toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
    draw();
  };
  search.addEventListener("input", filter);
  changed.addEventListener("change", filter);
  try {
    ({ items } = await request("GET", "/api/v1/settings"));
    draw();
  } catch (refusal) {
    toast(refusal.message, { isError: true });
  }
}

showSettings();
load();
