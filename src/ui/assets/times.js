// Times, durations and sizes as text.

import { element, findAll, setAttribute, setText } from "./elements.js";

/** Difference of the server's clock to this one, in milliseconds. */
let clockOffset = 0;
/** Takes the time of the server, in milliseconds since 1970. */
export function setServerTime(time) {
  clockOffset = time - Date.now();
}

/** Returns the time of the server, in seconds since 1970. */
export const serverNow = () => (Date.now() + clockOffset) / 1000;

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 100) return `${whole} s`;
  if (whole < 100 * 60) return `${Math.round(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.round(whole / 3600)} h`;
  return `${Math.round(whole / 86400)} d`;
}

/** Returns the seconds of a time of the API. */
export const seconds = (time) => Date.parse(time) / 1000;

/** Returns how long ago a time was, or how far ahead it is. */
export function ago(time) {
  const past = serverNow() - time;
  return past >= -1 ? `${duration(past)} ago` : `in ${duration(-past)}`;
}

export function exactTime(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

/** Shows a time, in seconds, as "8 s ago", with the exact one on hover. */
export function setTime(target, seconds) {
  const key = seconds == null ? "" : String(seconds);
  if (target.dataset.at === key) return;
  target.dataset.at = key;
  setText(target, seconds == null ? "" : ago(seconds));
  setAttribute(target, "title", seconds == null ? null : exactTime(seconds));
  setAttribute(target, "datetime", seconds == null ? null : new Date(seconds * 1000).toISOString());
}

export function timeElement(seconds) {
  const made = element("time");
  setTime(made, seconds);
  return made;
}

setInterval(() => {
  if (document.hidden) return;
  for (const shown of findAll("time[data-at]")) {
    if (shown.dataset.at) setText(shown, ago(Number(shown.dataset.at)));
  }
  for (const shown of findAll("[data-due]")) showCountdown(shown);
}, 1000);

export function showCountdown(target) {
  const left = Number(target.dataset.due) - serverNow();
  setText(target, left >= 0 ? `due in ${duration(left)}` : `overdue by ${duration(-left)}`);
  target.classList.toggle("late", left < 0);
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}
