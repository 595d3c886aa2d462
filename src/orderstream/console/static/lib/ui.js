// What every page is made of.
import { h, Component } from "../vendor/preact.js";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";
import { query } from "./api.js";

export const html = htm.bind(h);
export { Component, useCallback, useEffect, useLayoutEffect, useRef, useState };

// Numbers and times ---------------------------------------------------------------------------

const grouped = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const num = (n) => (n === null || n === undefined ? "–" : grouped.format(n));
export const rate = (n) =>
  n === null || n === undefined ? "–" : n >= 100 ? grouped.format(Math.round(n)) : short.format(n);
export const millis = (n) =>
  n === null || n === undefined ? "–" : n >= 1000 ? `${short.format(n / 1000)} s` : `${num(Math.round(n))} ms`;

export const bytes = (n) => {
  if (n === null || n === undefined) return "–";
  const power = Math.min(4, Math.floor(Math.log(Math.max(n, 1)) / Math.log(1024)));
  return `${short.format(n / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
};

const clock = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
export function Time({ at }) {
  if (at === null || at === undefined || at === "") return html`<span class="soft">–</span>`;
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return html`<span>${String(at)}</span>`;
  const utc = `${date.toISOString().replace("T", " ").replace("Z", "")} UTC`;
  return html`<time datetime=${date.toISOString()} title=${utc}>${clock.format(date)}</time>`;
}

const KINDS = {
  CONFIRMED: "good", FULFILLED: "good", SENT: "good", Stable: "good", STABLE: "good", done: "good",
  REJECTED: "warn", CANCELLED: "calm", EXPIRED: "calm", PENDING: "warn", EMPTY: "calm",
  FAILED: "bad", unknown: "bad", SENDING: "warn", SKIPPED: "calm",
};
export const Badge = ({ of, kind }) => html`<span class="badge ${kind ?? KINDS[of] ?? ""}">${of}</span>`;

// Live data -----------------------------------------------------------------------------------

// Asks again and again while the page is seen. What was there stays while something is away.
export function useLive(load, everyMs, deps = []) {
  const [state, setState] = useState({ data: undefined, error: undefined });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let over = false;
    let timer;
    const stop = new AbortController();
    async function ask() {
      if (!document.hidden || turn) {
        try {
          const data = await load(stop.signal);
          if (!over) setState({ data, error: undefined });
        } catch (error) {
          if (!over && error.name !== "AbortError") setState((was) => ({ ...was, error }));
        }
      }
      if (!over && everyMs) timer = setTimeout(ask, everyMs);
    }
    ask();
    return () => {
      over = true;
      clearTimeout(timer);
      stop.abort();
    };
  }, [...deps, turn, everyMs]);
  return { ...state, again: useCallback(() => setTurn((n) => n + 1), []) };
}

// What a list's search form says, kept in the address so that it can be sent to somebody.
export function useFilter(place) {
  const [filter, setFilter] = useState(place.query);
  const apply = (event) => {
    event.preventDefault();
    const parts = Object.fromEntries([...new FormData(event.target)].filter(([, v]) => v));
    setFilter(parts);
    history.replaceState(null, "", `#/${place.name}${query(parts)}`);
  };
  return [filter, apply];
}

// Pieces --------------------------------------------------------------------------------------

export const Page = ({ title, sub, actions, children }) => {
  useEffect(() => {
    document.title = `${title} · orderstream`;
  }, [title]);
  return html`<div class="head"><div><h1>${title}</h1>${sub && html`<p>${sub}</p>`}</div>
    <div class="row">${actions}</div></div>${children}`;
};
export const Card = ({ title, actions, children }) => (title
  ? html`<section class="card" aria-label=${title}><div class="head"><h2>${title}</h2><div class="row">${actions}</div></div>${children}</section>`
  : html`<div class="card">${children}</div>`);
export const Away = ({ error }) =>
  error ? html`<p class="note bad" role="status">${error.message}</p>` : null;
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Figure = ({ name, value, bad, title }) =>
  html`<div class="figure ${bad ? "bad" : ""}" title=${title}><b>${value}</b><span>${name}</span></div>`;
export const Field = ({ label, children }) => html`<label class="field"><span>${label}</span>${children}</label>`;

// `columns`: name, of(row), and what kind: num, tight.
export function Table({ columns, rows, keyOf, empty = "Nothing here.", label }) {
  if (!rows) return html`<p class="empty">…</p>`;
  if (!rows.length) return html`<${Empty}>${empty}<//>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${label ?? "table"}><table class="stack">
    <thead><tr>${columns.map((c) => html`<th scope="col" class=${c.kind ?? ""}><span class=${c.quiet ? "hidden" : ""}>${c.name}</span></th>`)}</tr></thead>
    <tbody>${rows.map(
      (row, n) => html`<tr key=${keyOf ? keyOf(row) : n}>${columns.map(
        (c) => html`<td class=${c.kind ?? ""} data-label=${c.quiet ? "" : c.name}><span>${c.of(row)}</span></td>`,
      )}</tr>`,
    )}</tbody></table></div>`;
}

// Bytes that are JSON are set out, others are shown as they are.
export function Payload({ text, hex }) {
  if (hex !== undefined) {
    const lines = hex.match(/.{1,32}/g) ?? [];
    return html`<pre>${lines.map((line, n) => `${(n * 16).toString(16).padStart(6, "0")}  ${line.match(/../g).join(" ")}\n`).join("")}</pre>`;
  }
  if (text === null || text === undefined) return html`<p class="soft">no value (a tombstone)</p>`;
  let shown = text;
  try {
    const read = JSON.parse(text);
    // Not where it would show another number than stands there.
    if (JSON.stringify(read) === text.trim()) shown = JSON.stringify(read, null, 2);
  } catch {
    // It is text.
  }
  return html`<pre>${shown}</pre>`;
}

// Toasts and questions: one of each for the whole page -----------------------------------------

let told = () => {};
let asking = () => {};

export const tell = (text, kind = "") => told(text, kind);
// Asks once, says what will happen; gives what was filled in, or null.
export const ask = (question) => new Promise((resolve) => asking({ ...question, resolve }));

export function Toasts() {
  const [toasts, setToasts] = useState([]);
  told = (text, kind) => {
    const id = Math.random();
    setToasts((all) => [...all, { id, text, kind }]);
    setTimeout(() => setToasts((all) => all.filter((t) => t.id !== id)), kind === "bad" ? 12000 : 5000);
  };
  return html`<div class="toasts" role="status" aria-live="polite">
    ${toasts.map((t) => html`<div key=${t.id} class="toast ${t.kind}">${t.text}</div>`)}</div>`;
}

export function Questions() {
  const [question, setQuestion] = useState(null);
  const dialog = useRef();
  asking = setQuestion;
  useEffect(() => {
    if (question && dialog.current && !dialog.current.open) dialog.current.showModal();
  }, [question]);
  if (!question) return null;
  const end = (value) => {
    dialog.current.close();
    setQuestion(null);
    question.resolve(value);
  };
  const submit = (event) => {
    event.preventDefault();
    end(Object.fromEntries(new FormData(event.target)));
  };
  return html`<dialog ref=${dialog} aria-labelledby="question" onCancel=${(e) => (e.preventDefault(), end(null))}>
    <h2 id="question">${question.title}</h2>
    ${question.text && html`<p>${question.text}</p>`}
    <form onSubmit=${submit}>${question.body}
      <div class="row"><button type="button" onClick=${() => end(null)}>Leave it</button>
        <button class=${question.danger ? "danger" : "main"}>${question.yes ?? "Do it"}</button></div></form></dialog>`;
}

// Does something for an operator: shows what came of it, and what did not.
export async function act(what, said) {
  try {
    const result = await what();
    tell(typeof said === "function" ? said(result) : said);
    return result;
  } catch (error) {
    tell(error.message, "bad");
    return undefined;
  }
}
