// What all pages share: theme and keyboard.

import { find, isAdmin } from "./elements.js";

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function switchTheme() {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = isDark ? "light" : "dark";
  applyTheme(theme);
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // The browser keeps nothing: the choice is for this page.
  }
}

try {
  applyTheme(localStorage.getItem("theme"));
} catch {
  // As above.
}
find("#theme")?.addEventListener("click", switchTheme);
find("#help-button")?.addEventListener("click", () => find("#help").showModal());

// ISOs may be dropped on every page.
function listenToDrops() {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => !event.relatedTarget && document.body.classList.remove("dropping"));
  addEventListener("drop", async (event) => {
    document.body.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    const { uploads } = await import("./uploads.js");
    uploads.offer(files);
  });
}

if (isAdmin) listenToDrops();

let pageKeys = () => false;

/** Sets the function that takes the keys of the page itself, and returns whether it knew the key. */
export function setKeys(take) {
  pageKeys = take;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  const target = event.target;
  if (event.key === "Escape" && target.id === "search") return target.blur();
  if (target.matches?.("input:not([type=checkbox]), textarea, select")) return;
  const search = find("#search");
  if (event.key === "/" && search) search.focus();
  else if (event.key === "?") find("#help")?.showModal();
  else if (!pageKeys(event.key)) return;
  event.preventDefault();
});
