// Requests to the server's API.

/** A request that the server refused: its message, and the field that it names. */
export class Refusal extends Error {
  constructor(message, field, code) {
    super(message);
    this.field = field;
    this.code = code;
  }
}

export function logIn() {
  location.assign(`/ui/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** Returns the message of a reply that is a refusal. */
export async function messageOf(reply) {
  const text = await reply.text();
  try {
    return JSON.parse(text).message ?? text;
  } catch {
    return text.trim() || `${reply.status} ${reply.statusText}`;
  }
}

/** Sends a request with a JSON body, and returns the JSON of the reply. */
export async function request(method, path, body, type = "application/json") {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = type;
  }
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Refusal("The server does not answer.", "", 0);
  }
  if (reply.status === 401) logIn();
  const text = await reply.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    // Not JSON: the text is the message.
  }
  if (reply.ok) return value;
  const cause = value?.details?.causes?.[0];
  const message = value?.message ?? value?.error?.message ?? (text.trim() || `${reply.status} ${reply.statusText}`);
  throw new Refusal(
    cause?.message ? `${cause.field ? `${cause.field}: ` : ""}${cause.message}` : message,
    cause?.field ?? "",
    reply.status,
  );
}

export const split = (id) => {
  const [namespace, name] = id.split("/");
  return { namespace, name };
};
export const hostPath = (id) => {
  const { namespace, name } = split(id);
  return `/api/v1/namespaces/${namespace}/baremetalhosts/${name}`;
};
export const hostPage = (id) => `/ui/hosts/${id}`;
export const patch = (path, change) => request("PATCH", path, change, "application/merge-patch+json");
