// The shell: who is signed in, which page is shown, and the keys that lead there.
import { render } from "./vendor/preact.js";
import { ask, html, Questions, Toasts, useEffect, useLayoutEffect, useState } from "./lib/ui.js";
import { get, onSignedOut, send } from "./lib/api.js";
import { Overview } from "./pages/overview.js";

// The other pages come when they are asked for, and soon after the first is drawn.
const PAGES = [
  ["", "Overview", "h", () => Promise.resolve({ default: Overview })],
  ["orders", "Orders", "o", () => import("./pages/orders.js")],
  ["stock", "Stock", "s", () => import("./pages/stock.js")],
  ["dead-letters", "Dead letters", "d", () => import("./pages/dead_letters.js")],
  ["topics", "Topics", "t", () => import("./pages/topics.js")],
  ["consumers", "Consumers", "c", () => import("./pages/consumers.js")],
  ["notifications", "Notifications", "n", () => import("./pages/notifications.js")],
  ["analytics", "Analytics", "a", () => import("./pages/analytics.js")],
  ["audit", "Audit log", "l", () => import("./pages/audit.js")],
];

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function placeNow() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = path.split("/").map(decoded);
  return { name, rest, query: Object.fromEntries(new URLSearchParams(query)) };
}

function usePlace() {
  const [place, setPlace] = useState(placeNow);
  useLayoutEffect(() => {
    const moved = () => {
      setPlace(placeNow());
      scrollTo(0, 0);
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

const KEYS_HELP = html`<dl class="facts"><dt><kbd>/</kbd></dt><dd>search on this page</dd>
  ${PAGES.map(([, title, key]) => html`<dt><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${title}</dd>`)}
  <dt><kbd>?</kbd></dt><dd>this list</dd></dl>`;

// Before the page is painted: who sees it may press a key.
function useKeys() {
  useLayoutEffect(() => {
    let went = 0;
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
        if (event.key === "Escape") event.target.blur();
        return;
      }
      const page = Date.now() - went < 1500 && PAGES.find(([, , key]) => key === event.key);
      went = event.key === "g" ? Date.now() : 0;
      if (page) location.hash = `#/${page[0]}`;
      else if (event.key === "/") document.querySelector("[data-search]")?.focus();
      else if (event.key === "?") ask({ title: "Keys", body: KEYS_HELP, yes: "Good" });
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function Side({ place, session, theme, setTheme, letters }) {
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [place]);
  const leave = async () => {
    await send("DELETE", "/console/session");
    location.reload();
  };
  return html`<nav class="side ${open ? "open" : ""}" aria-label="Pages">
    <div class="top"><a class="brand" href="#/"><img src="/static/icon.svg" alt="" />orderstream</a>
      <button class="menu" aria-expanded=${open} onClick=${() => setOpen(!open)}>Menu</button></div>
    ${PAGES.map(
      ([name, title, key]) => html`<a class="item" href="#/${name}" title="g ${key}"
        aria-current=${place.name === name ? "page" : undefined}>${title}
        ${name === "dead-letters" && letters ? html`<span class="pill">${letters}</span>` : null}</a>`,
    )}
    <div class="foot">
      ${session.name ? html`<span>${session.name} (${session.role})</span><button onClick=${leave}>Sign out</button>` : null}
      <button onClick=${() => setTheme(theme === "dark" ? "light" : "dark")}>${theme === "dark" ? "Light" : "Dark"} colours</button>
      <span><kbd>?</kbd> keys</span></div></nav>`;
}

function SignIn({ done }) {
  const [fault, setFault] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      done(await send("POST", "/console/session", { key: new FormData(event.target).get("key") }));
    } catch (error) {
      setFault(error.message);
    }
  };
  return html`<main class="sign-in card"><h1>orderstream</h1>
    <p class="soft">This installation has API keys. Sign in with yours: a viewer may look, an operator may act.</p>
    <form onSubmit=${submit}><label class="field"><span>API key</span>
      <input name="key" type="password" autocomplete="current-password" required autofocus /></label>
      <p class="bad" role="alert">${fault}</p><button class="main">Sign in</button></form></main>`;
}

function App() {
  const place = usePlace();
  const [session, setSession] = useState(null);
  const [fault, setFault] = useState("");
  const [pages, setPages] = useState({ "": Overview });
  const [letters, setLetters] = useState(0);
  const [theme, setThemeName] = useState(document.documentElement.dataset.theme);
  useKeys();
  useEffect(() => {
    const changed = () => setThemeName(document.documentElement.dataset.theme);
    addEventListener("theme", changed);
    return () => removeEventListener("theme", changed);
  }, []);
  useEffect(() => {
    const look = () =>
      get("/console/session").then(
        (said) => (setFault(""), setSession(said)),
        (error) => (setFault(error.message), setTimeout(look, 2000)),
      );
    look();
    return onSignedOut(() => setSession((was) => was && { ...was, name: null, role: null }));
  }, []);
  useEffect(() => {
    const known = PAGES.find(([name]) => name === place.name);
    if (!known || pages[place.name]) return undefined;
    let timer;
    known[3]().then(
      (module) => setPages((all) => ({ ...all, [known[0]]: module.default })),
      () => {
        timer = setTimeout(() => location.reload(), 3000); // The console is started again.
      },
    );
    return () => clearTimeout(timer);
  }, [place.name]);
  const setTheme = (name) => {
    localStorage.setItem("theme", name);
    document.documentElement.dataset.theme = name;
    setThemeName(name);
  };
  if (fault) return html`<p class="boot">${fault}</p>`;
  if (!session) return html`<p class="boot">orderstream</p>`;
  if (session.needed && !session.role) return html`<${SignIn} done=${setSession} />`;
  const known = PAGES.some(([name]) => name === place.name);
  const Shown = pages[place.name];
  const may = session.role === "operator";
  return html`<a class="skip" href="#main" onClick=${(e) => (e.preventDefault(), document.getElementById("main").focus())}>To the page</a>
    <div class="shell"><${Side} ...${{ place, session, theme, setTheme, letters }} />
    <main id="main" tabindex="-1">${
      !known ? html`<h1>There is no such page</h1><p><a href="#/">To the overview</a></p>`
      : Shown ? html`<${Shown} key=${place.name + place.rest.join("/")} place=${place} may=${may} theme=${theme} onLetters=${setLetters} />`
      : html`<p class="empty">…</p>`
    }</main></div><${Toasts} /><${Questions} />`;
}

render(html`<${App} />`, document.getElementById("app"));
