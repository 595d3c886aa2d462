// Everything at a glance: how much flows, where it is stuck, what is away.
import { Away, Badge, Card, Figure, html, millis, num, Page, rate, useEffect, useLive, useRef, useState } from "../lib/ui.js";
import { get } from "../lib/api.js";
import { Chart } from "../lib/chart.js";

const EVERY_MS = 2000;
const HOUR_MS = 3600_000;

// Fetches the hour once, and then only what came since.
function useOverview() {
  const points = useRef([]);
  return useLive(async (signal) => {
    const last = points.current.at(-1)?.at ?? 0;
    const said = await get("/console/overview", { since: last || undefined }, signal);
    const from = Date.now() - HOUR_MS;
    points.current = [...points.current, ...said.points].filter((p) => p.at > from);
    return { ...said, points: points.current };
  }, EVERY_MS);
}

export function Overview({ theme, onLetters }) {
  const { data, error } = useOverview();
  const [flow, setFlow] = useState([]);
  useEffect(() => {
    get("/console/flow").then(setFlow, () => {});
  }, []);
  const now = data?.now ?? {};
  const stuck = data?.stuck ?? [];
  const lag = Object.values(now.lag ?? {}).reduce((a, b) => a + b, 0);
  useEffect(() => onLetters(now.deadLetters ?? 0), [now.deadLetters]);
  const away = Object.entries(data?.health ?? {}).filter(([, h]) => !h.up);
  return html`<${Page} title="Overview" sub="live, each two seconds; the charts show the last hour">
    <${Away} error=${error} />
    ${away.length ? html`<p class="note bad" role="status">${away.map(([name, h]) => `${name}: ${h.says}`).join(" · ")}</p>` : null}
    ${stuck.length ? html`<p class="note bad" role="status">Stuck: ${stuck.join(", ")} has records to read and does not get on.</p>` : null}
    <div class="figures">
      <${Figure} name="accepted /s" value=${rate(now.accepted)} />
      <${Figure} name="confirmed /s" value=${rate(now.outcomes?.CONFIRMED)} />
      <${Figure} name="rejected /s" value=${rate(now.outcomes?.REJECTED)} />
      <${Figure} name="decision p50" value=${millis(now.p50)} title="of the newest 200 orders" />
      <${Figure} name="decision p99" value=${millis(now.p99)} title="of the newest 200 orders" />
      <${Figure} name="lag, all services" value=${num(lag)} bad=${stuck.length > 0} />
      <${Figure} name="open dead letters" value=${num(now.deadLetters)} bad=${now.deadLetters > 0} />
    </div>
    <${Card} title="The flow"><div class="scroll" tabindex="0" role="group" aria-label="the flow"><${Flow} now=${now} stuck=${stuck} health=${data?.health ?? {}} steps=${flow} /></div><//>
    <${Charts} points=${data?.points ?? []} theme=${theme} />
    <${Card} title="Health"><div class="grid">${Object.entries(data?.health ?? {}).map(
      ([name, h]) => html`<div key=${name}><b>${name}</b> <${Badge} of=${h.up ? "up" : "away"} kind=${h.up ? "good" : "bad"} />
        <div class="soft">${h.says || (h.up ? "ready" : "")}</div>
        ${Object.entries(h.faults ?? {}).map(([part, said]) => html`<div class="bad">${part}: ${said}</div>`)}
        ${Object.entries(h.without ?? {}).map(([part, said]) => html`<div class="warn">without ${part}: ${said}</div>`)}</div>`,
    )}${STORES.map(([name, part]) => html`<${Store} key=${name} name=${name} part=${part} health=${data?.health ?? {}} />`)}</div><//>
  <//>`;
}

// The database and Redis as the services see them: each says so in its own health.
const STORES = [["database", "store"], ["Redis", "redis"]];
function Store({ name, part, health }) {
  const says = Object.entries(health).filter(([, h]) => h.faults?.[part] || h.without?.[part]).map(([who]) => who);
  const asked = Object.values(health).some((h) => h.up);
  return html`<div><b>${name}</b> ${says.length ? html`<${Badge} of="away" kind="bad" />` : asked && html`<${Badge} of="up" kind="good" />`}
    <div class="soft">${says.length ? `say ${says.join(", ")}` : asked ? "no service misses it" : "nobody is there to ask"}</div></div>`;
}

function Charts({ points, theme }) {
  const at = points.map((p) => p.at / 1000);
  const line = (name, of, colour) => ({ name, colour, values: points.map((p) => of(p) ?? null) });
  const services = ["inventory", "view", "notification", "analytics"];
  if (points.length < 2) return html`<p class="empty">The charts begin after some seconds.</p>`;
  return html`<div class="grid wide">
    <${Card} title="Orders per second"><${Chart} theme=${theme} label="orders per second, last hour" at=${at} format=${rate} series=${[
      line("accepted", (p) => p.accepted), line("confirmed", (p) => p.outcomes.CONFIRMED, "--two"),
      line("rejected", (p) => p.outcomes.REJECTED, "--three"), line("failed", (p) => p.outcomes.FAILED, "--four")]} /><//>
    <${Card} title="Decision latency"><${Chart} theme=${theme} label="decision latency, last hour" at=${at} format=${millis} series=${[
      line("p50", (p) => p.p50), line("p99", (p) => p.p99, "--three")]} /><//>
    <${Card} title="Lag by service"><${Chart} theme=${theme} label="lag by service, last hour" at=${at} format=${num} series=${services.map((s) => line(s, (p) => p.lag[s]))} /><//>
    <${Card} title="Read per second, in offsets"><${Chart} theme=${theme} label="offsets read per second, last hour" at=${at} format=${rate} series=${services.map((s) => line(s, (p) => p.handled[s]))} /><//>
  </div>`;
}

// Where the boxes stand: beside each other, or on a narrow screen below each other.
const WIDE = { box: "0 0 760 250", width: 132, clients: [34, 129], notes: [412, 172, "middle"],
  at: { order: [122, 100], inventory: [346, 100], view: [600, 14], notification: [600, 100], analytics: [600, 186] } };
const NARROW = { box: "0 0 340 316", width: 106, clients: [170, 14], notes: [230, 152, "start"], upright: true,
  at: { order: [117, 46], inventory: [117, 138], view: [2, 258], notification: [117, 258], analytics: [232, 258] } };
const HEIGHT = 50;

function useNarrow() {
  const [query] = useState(() => matchMedia("(max-width: 860px)"));
  const [narrow, setNarrow] = useState(query.matches);
  useEffect(() => {
    const changed = () => setNarrow(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return narrow;
}

// order -> inventory -> view, notification, analytics; an arrow is red where it is stuck.
function Flow({ now, stuck, health, steps }) {
  const plan = useNarrow() ? NARROW : WIDE;
  const does = Object.fromEntries(steps.map((s) => [s.service, s.does]));
  const isBad = (name) => stuck.includes(name) || health[name]?.up === false;
  const box = (name, sub) => {
    const [x, y] = plan.at[name];
    const middle = x + plan.width / 2;
    return html`<g class=${isBad(name) ? "is-bad" : ""}><title>${does[name] ?? name}</title><rect x=${x} y=${y} width=${plan.width} height=${HEIGHT} rx="8" />
      <text x=${middle} y=${y + 21} text-anchor="middle">${name}</text><text class="sub" x=${middle} y=${y + 38} text-anchor="middle">${sub}</text></g>`;
  };
  // Leaves a box where the next ones are, and comes to one from there.
  const edge = (name, isEnd) => {
    const [x, y] = plan.at[name] ?? [];
    if (plan.upright) return name ? [x + plan.width / 2, isEnd ? y : y + HEIGHT] : [plan.clients[0], plan.clients[1] + 6];
    return name ? [isEnd ? x : x + plan.width, y + HEIGHT / 2] : [62, 125];
  };
  const arrow = (from, name, text) => {
    const [[x1, y1], [x2, y2]] = [edge(from), edge(name, true)];
    const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
    const line = plan.upright ? `M${x1},${y1} C${x1},${my} ${x2},${my} ${x2},${y2 - 7}` : `M${x1},${y1} C${mx},${y1} ${mx},${y2} ${x2 - 7},${y2}`;
    const aside = plan.upright ? (x2 > x1 ? [x2 - 9, y2 - 10, "end"] : [x2 + 9, y2 - 10, "start"]) : [x2 - 14, y2 + (y2 > y1 ? 18 : -7), "end"];
    return html`<path class=${isBad(name) ? "is-bad" : ""} d=${line} /><path class="head-of" d="M${x2},${y2} l${plan.upright ? "-4,-8 h8" : "-8,-4 v8"} z" />
      <text class="sub" x=${aside[0]} y=${aside[1]} text-anchor=${aside[2]}>${text}</text>`;
  };
  const per = (n) => `${rate(n)}/s`;
  const behind = (name) => `lag ${num(now.lag?.[name])}`;
  const outcomes = now.outcomes ?? {};
  const decided = outcomes.CONFIRMED === undefined ? undefined : outcomes.CONFIRMED + (outcomes.REJECTED ?? 0);
  const readers = ["view", "notification", "analytics"];
  return html`<svg class="flow ${plan.upright ? "" : "wide"}" viewBox=${plan.box} role="img" aria-label="order to inventory, and from there to view, notification and analytics">
    <text class="sub" x=${plan.clients[0]} y=${plan.clients[1]} text-anchor="middle">clients</text>
    ${arrow(undefined, "order", "POST")}${arrow("order", "inventory", per(now.accepted))}
    ${readers.map((name) => arrow("inventory", name, per(now.handled?.[name])))}
    ${box("order", `accepts ${per(now.accepted)}`)}${["inventory", ...readers].map((name) => box(name, behind(name)))}
    <text class="sub" x=${plan.notes[0]} y=${plan.notes[1]} text-anchor=${plan.notes[2]}>decides ${per(decided)}</text>
    <text class="sub" x=${plan.notes[0]} y=${plan.notes[1] + 18} text-anchor=${plan.notes[2]}>${num(now.deadLetters)} dead letters</text></svg>`;
}
