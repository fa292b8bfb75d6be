// Uploads of ISOs.

import { labelled, openForm } from "./dialogs.js";
import { element, find, keyed, setAttribute, setText } from "./elements.js";
import { Refusal, request } from "./requests.js";
import { rows } from "./rows.js";
import { size } from "./times.js";

/** An ISO that is being sent. A broken transfer goes on where the server has it. */
class Upload {
  constructor(file, { name, sha256, description }, changed) {
    [this.file, this.name, this.changed] = [file, name, changed];
    this.key = uploadKey(file, name);
    this.query = { name, ...(sha256 ? { sha256: sha256.trim() } : {}), ...(description ? { description } : {}) };
    [this.sent, this.state, this.message, this.tries] = [0, "sending", "", 0];
    this.start();
  }

  async start() {
    this.state = "sending";
    try {
      const { offset } = await request("GET", `/api/v1/uploads/${this.key}`);
      this.sent = offset;
      await this.send(offset);
      this.state = "done";
    } catch (problem) {
      if (this.state === "cancelled") return;
      // A connection that broke may come back, and the server may still wait on it; what it refuses stays refused.
      const isBroken = problem.code === 0 || (problem.code === 409 && problem.message.includes("in progress"));
      if (isBroken && this.tries < 8) {
        this.tries += 1;
        this.state = "waiting";
        setTimeout(() => this.state === "waiting" && this.start(), 1000 * 2 ** Math.min(this.tries, 5));
      } else {
        this.state = "failed";
        this.message = problem.message;
      }
    }
    this.changed(this);
  }

  send(offset) {
    const query = new URLSearchParams({ ...this.query, resume: this.key, offset, length: this.file.size });
    const sender = new XMLHttpRequest();
    this.sender = sender;
    return new Promise((resolve, reject) => {
      sender.open("POST", `/api/v1/iscsi-cdroms/upload?${query}`);
      sender.setRequestHeader("Content-Type", "application/octet-stream");
      sender.upload.onprogress = ({ loaded }) => {
        this.sent = offset + loaded;
        this.tries = 0;
        this.changed(this);
      };
      sender.onload = () => {
        if (sender.status === 201) return resolve();
        let reply = {};
        try {
          reply = JSON.parse(sender.responseText);
        } catch {
          // The status line says it.
        }
        reject(
          new Refusal(
            reply.details?.causes?.[0]?.message ?? reply.message ?? `${sender.status} ${sender.statusText}`,
            "",
            sender.status,
          ),
        );
      };
      sender.onerror = () => reject(new Refusal("The connection broke.", "", 0));
      sender.onabort = () => reject(new Refusal("Cancelled.", "", 1));
      sender.send(this.file.slice(offset));
    });
  }

  cancel() {
    const wasActive = this.state !== "failed";
    this.state = "cancelled";
    this.sender?.abort();
    if (wasActive || this.sent) request("DELETE", `/api/v1/uploads/${this.key}`).catch(() => {});
    this.changed(this);
  }
}

/** Returns a key that is the same for the same file: an upload goes on when the file is dropped again. */
function uploadKey(file, name) {
  const text = `${name} ${file.name} ${file.size} ${file.lastModified}`;
  return [0, 1, 2, 3]
    .map((seed) => {
      let hash = 2166136261 ^ (seed * 16777619);
      for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
      return (hash >>> 0).toString(16).padStart(8, "0");
    })
    .join("");
}

const nameOf = (fileName) =>
  fileName
    .toLowerCase()
    .replace(/\.(iso|img)$/, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63) || "iso";

/** The uploads of this page, and those that were not finished. */
class UploadList {
  constructor() {
    this.uploads = [];
    addEventListener(
      "beforeunload",
      (event) => this.uploads.some(({ state }) => state === "sending") && event.preventDefault(),
    );
  }

  /** Asks for the name of each file, one after another, and sends it. */
  offer(files) {
    const [file, ...others] = files;
    if (!file) return;
    const name = element("input", {
      name: "name",
      required: true,
      value: nameOf(file.name),
      pattern: "[a-z0-9]([a-z0-9.\\-]*[a-z0-9])?",
      autocomplete: "off",
    });
    const sum = element("input", {
      name: "sha256",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "optional: 64 hexadecimal digits",
    });
    const description = element("input", { name: "description", autocomplete: "off", placeholder: "optional" });
    openForm({
      title: `Add ${file.name}`,
      intro: `${size(file.size)}. With a SHA-256 the server refuses a damaged file.`,
      fields: [labelled("Name", name), labelled("SHA-256", sum), labelled("Description", description)],
      action: "Upload",
      submit: async (values) => {
        if (rows.images.has(values.name))
          throw new Refusal(`${values.name} exists already: choose another name, or delete it first.`);
        this.uploads.push(new Upload(file, values, () => this.draw()));
        this.draw();
        if (others.length) setTimeout(() => this.offer(others));
      },
    });
  }

  /** Shows the uploads that the server has a part of. */
  async findUnfinished() {
    let items;
    try {
      ({ items } = await request("GET", "/api/v1/uploads"));
    } catch {
      // The next upload of the same file finds its part.
      return;
    }
    for (const { key, name, offset } of items) {
      if (this.uploads.some((upload) => upload.key === key)) continue;
      const cancel = () => {
        request("DELETE", `/api/v1/uploads/${key}`).catch(() => {});
        this.uploads = this.uploads.filter((upload) => upload.key !== key);
        this.draw();
      };
      this.uploads.push({
        key,
        name: name ?? key,
        sent: offset,
        state: "unfinished",
        message: "add the same file again to continue",
        cancel,
      });
    }
    this.draw();
  }

  draw() {
    const shown = this.uploads.filter(({ state }) => state !== "cancelled" && state !== "done");
    const latest = new Map(shown.map((upload) => [upload.key, upload]));
    const make = ({ key }) =>
      element(
        "li",
        {},
        element("b"),
        element("progress", { max: 1 }),
        element("span", { class: "hint" }),
        element(
          "button",
          { type: "button", class: "quiet", onclick: () => this.uploads.findLast((one) => one.key === key)?.cancel() },
          "Cancel",
        ),
      );
    keyed(
      find("#uploads"),
      [...latest.values()],
      ({ key }) => key,
      make,
      (line, upload) => {
        const [name, bar, text, button] = line.children;
        const total = upload.file?.size;
        setText(name, upload.name);
        setAttribute(bar, "aria-label", `Upload of ${upload.name}`);
        bar.hidden = !total;
        if (total) bar.value = upload.sent / total;
        const progress = total ? `${size(upload.sent)} of ${size(total)}` : `${size(upload.sent)} arrived`;
        const states = {
          sending: upload.sent === total ? "checking" : progress,
          waiting: `${progress}, waiting for the connection`,
          failed: upload.message,
          unfinished: `${progress}: ${upload.message}`,
        };
        setText(text, states[upload.state]);
        text.classList.toggle("error", upload.state === "failed");
        setText(button, upload.state === "failed" ? "Dismiss" : "Cancel");
      },
    );
  }
}

export const uploads = new UploadList();
