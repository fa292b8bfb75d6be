// Messages, menus and dialogs.

import { element, find, findAll, setAttribute, setText } from "./elements.js";

export function toast(text, { isError = false, stays = false, actions = [] } = {}) {
  const close = () => made.remove();
  const buttons = actions.map(([title, act]) =>
    element("button", { type: "button", onclick: () => (close(), act()) }, title),
  );
  const made = element(
    "div",
    { class: isError ? "toast error" : "toast" },
    element("span", {}, text),
    ...buttons,
    element("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: close }, "×"),
  );
  find("#toasts").append(made);
  if (!stays) setTimeout(close, isError ? 12000 : 5000);
}

/** Opens the menu below a button. Items: [title, action] or [title, action, "danger"]. */
export function openMenu(button, items) {
  const menu = find("#menu");
  const choose = (act) => () => {
    menu.hidePopover();
    act();
  };
  const made = items.map(([title, act, kind]) =>
    element("button", { type: "button", role: "menuitem", class: kind, onclick: choose(act) }, title),
  );
  menu.replaceChildren(...made);
  menu.showPopover();
  const [box, own] = [button.getBoundingClientRect(), menu.getBoundingClientRect()];
  const below = box.bottom + own.height + 8 < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(box.right - own.width, innerWidth - own.width - 8))}px`;
  menu.style.top = `${below ? box.bottom + 4 : Math.max(8, box.top - own.height - 4)}px`;
  setAttribute(button, "aria-expanded", "true");
  menu.addEventListener(
    "toggle",
    (event) => {
      if (event.newState !== "closed") return;
      setAttribute(button, "aria-expanded", "false");
      if (!document.activeElement || document.activeElement === document.body || menu.contains(document.activeElement))
        button.focus();
    },
    { once: false, signal: menuSignal() },
  );
  made[0]?.focus();
}

let menuAbort = new AbortController();
function menuSignal() {
  menuAbort.abort();
  menuAbort = new AbortController();
  return menuAbort.signal;
}

find("#menu")?.addEventListener("keydown", (event) => {
  const items = findAll("[role=menuitem]", event.currentTarget);
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  items[(at + step + items.length) % items.length]?.focus();
});

/** Opens a dialog with a form. `submit` gets the form's values; a refusal stays in the dialog. */
export function openForm({ title, intro, fields, action, submit }) {
  const dialog = find("#dialog");
  const error = element("p", { class: "error", role: "alert", hidden: true });
  const confirm = element("button", { type: "submit", class: "primary" }, action);
  const form = element(
    "form",
    { method: "dialog" },
    element("h2", { id: "dialog-title" }, title),
    intro ? element("p", { class: "hint" }, intro) : null,
    ...fields,
    error,
    element(
      "div",
      { class: "buttons" },
      element("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      confirm,
    ),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    error.hidden = true;
    try {
      await submit(Object.fromEntries(new FormData(form)));
      // A summary may have taken the form's place.
      if (form.isConnected) dialog.close();
    } catch (refusal) {
      setText(error, refusal.message);
      error.hidden = false;
    } finally {
      confirm.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  find("select, input, textarea, button.primary", form)?.focus();
}

export function labelled(label, control) {
  return element("label", { class: "field" }, element("span", {}, label), control);
}

/** Fills a drop-down with options, [value, title]; keeps what is chosen. */
export function fillOptions(select, options, chosen = select.value) {
  const key = JSON.stringify(options);
  if (select.dataset.options === key) {
    if (select.value !== chosen) select.value = chosen;
    return;
  }
  select.dataset.options = key;
  select.replaceChildren(...options.map(([value, title]) => element("option", { value }, title)));
  select.value = chosen;
}
