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
      <${Figure} name="open dead letters" value=${now.deadLetters >= 1000 ? "1,000+" : num(now.deadLetters)} bad=${now.deadLetters > 0} />
    </div>
    <${Card} title="The flow"><div class="scroll" tabindex="0" role="group" aria-label="the flow"><${Flow} now=${now} stuck=${stuck} health=${data?.health ?? {}} steps=${flow} /></div><//>
    <${Charts} points=${data?.points ?? []} theme=${theme} />
    <${Card} title="Health"><div class="grid">${Object.entries(data?.health ?? {}).map(
      ([name, h]) => html`<div key=${name}><b>${name}</b> <${Badge} of=${h.up ? "up" : "away"} kind=${h.up ? "good" : "bad"} />
        <div class="soft">${h.says || (h.up ? "ready" : "")}</div>
        ${Object.entries(h.faults ?? {}).map(([part, said]) => html`<div class="bad">${part}: ${said}</div>`)}
        ${Object.entries(h.without ?? {}).map(([part, said]) => html`<div class="warn">without ${part}: ${said}</div>`)}</div>`,
    )}</div><${Stores} health=${data?.health ?? {}} /><//>
  <//>`;
}

// The database and Redis as the services see them: each says so in its own health.
function Stores({ health }) {
  const says = (part) => Object.entries(health).filter(([, h]) => h.faults?.[part] || h.without?.[part]).map(([name]) => name);
  const parts = [["database", says("store")], ["Redis", says("redis")]];
  return html`<p class="soft">${parts.map(([name, who], n) => html`${n ? " · " : ""}${name}: ${
    who.length ? html`<span class="bad">away, say ${who.join(", ")}</span>` : "no service misses it"}`)}</p>`;
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
    <${Card} title="Handled per second"><${Chart} theme=${theme} label="records handled per second, last hour" at=${at} format=${rate} series=${services.map((s) => line(s, (p) => p.handled[s]))} /><//>
  </div>`;
}

// order -> inventory -> view, notification, analytics; an arrow is red where it is stuck.
function Flow({ now, stuck, health, steps }) {
  const does = Object.fromEntries(steps.map((s) => [s.service, s.does]));
  const box = (name, x, y, sub) => {
    const bad = stuck.includes(name) || health[name]?.up === false;
    return html`<g class=${bad ? "is-bad" : ""}><title>${does[name] ?? name}</title><rect x=${x} y=${y} width="132" height="50" rx="8" />
      <text x=${x + 66} y=${y + 21} text-anchor="middle">${name}</text><text class="sub" x=${x + 66} y=${y + 38} text-anchor="middle">${sub}</text></g>`;
  };
  const arrow = (from, to, name, text) => {
    const middle = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
    const bad = stuck.includes(name) || health[name]?.up === false;
    return html`<path class=${bad ? "is-bad" : ""} d="M${from} C${middle[0]},${from[1]} ${middle[0]},${to[1]} ${to[0] - 7},${to[1]}" />
      <path class="head-of" d="M${to} l-8,-4 v8 z" /><text class="sub" x=${to[0] - 14} y=${to[1] + (to[1] > from[1] ? 18 : -7)} text-anchor="end">${text}</text>`;
  };
  const per = (n) => `${rate(n)}/s`;
  const behind = (name) => `lag ${num(now.lag?.[name])}`;
  const outcomes = now.outcomes ?? {};
  const decided = outcomes.CONFIRMED === undefined ? undefined : outcomes.CONFIRMED + (outcomes.REJECTED ?? 0);
  return html`<svg class="flow" viewBox="0 0 760 250" role="img" aria-label="order to inventory, and from there to view, notification and analytics">
    ${arrow([62, 125], [122, 125], "order", "POST")}
    <text class="sub" x="34" y="129" text-anchor="middle">clients</text>
    ${arrow([254, 125], [346, 125], "inventory", per(now.accepted))}
    ${arrow([478, 125], [600, 39], "view", per(now.handled?.view))}
    ${arrow([478, 125], [600, 125], "notification", per(now.handled?.notification))}
    ${arrow([478, 125], [600, 211], "analytics", per(now.handled?.analytics))}
    ${box("order", 122, 100, `accepts ${per(now.accepted)}`)}
    ${box("inventory", 346, 100, behind("inventory"))}
    ${box("view", 600, 14, behind("view"))}
    ${box("notification", 600, 100, behind("notification"))}
    ${box("analytics", 600, 186, behind("analytics"))}
    <text class="sub" x="412" y="172" text-anchor="middle">decides ${per(decided)}</text>
    <text class="sub" x="412" y="190" text-anchor="middle">${num(now.deadLetters)} dead letters</text></svg>`;
}
