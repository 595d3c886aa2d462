// Asks the console's own server; what is refused is a Problem with a sentence for people.

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `The console answers ${status}.`);
    this.status = status;
    this.field = document.field;
  }
}

const signedOut = new Set();
export const onSignedOut = (call) => (signedOut.add(call), () => signedOut.delete(call));

async function asked(method, path, { body, type, signal, headers } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      body,
      signal,
      headers: { ...(type ? { "content-type": type } : {}), ...headers },
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The console itself does not answer. It is asked again." });
  }
  const text = await answer.text();
  let document = {};
  try {
    document = text ? JSON.parse(text) : {};
  } catch {
    document = { detail: text.slice(0, 300) };
  }
  if (answer.status === 401 && path !== "/console/session") signedOut.forEach((call) => call());
  if (!answer.ok) throw new Problem(answer.status, document);
  return document;
}

export const query = (parts) => {
  const kept = Object.entries(parts).filter(([, v]) => v !== undefined && v !== null && v !== "");
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
};
export const get = (path, parts = {}, signal) => asked("GET", path + query(parts), { signal });
export const send = (method, path, document, headers) =>
  asked(method, path, { body: JSON.stringify(document ?? {}), type: "application/json", headers });
export const sendText = (method, path, body, type) => asked(method, path, { body, type });
export const enc = encodeURIComponent;
