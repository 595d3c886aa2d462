// The numbers: what became of orders, what sells, what was wanted and not there, and when.
import { Away, Badge, Card, Figure, html, millis, num, Page, Table, useLive, useState } from "../lib/ui.js";
import { enc, get } from "../lib/api.js";
import { Chart } from "../lib/chart.js";

const DAY_MS = 86400_000;
const API = "/services/analytics/api/analytics";
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const SPANS = { minute: "last hour", hour: "last day", day: "last 30 days" };
const share = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)} %`);

export default function Analytics({ theme }) {
  const [unit, setUnit] = useState("minute");
  const summary = useLive((signal) => get(`${API}/summary`, {}, signal), 3000);
  const series = useLive(async (signal) => ({ unit, rows: (await get(`${API}/timeseries`, { unit, zone: ZONE }, signal))[`${unit}s`] }), 10000, [unit]);
  const week = useLive((signal) => get(`${API}/timeseries`, { unit: "hour", zone: ZONE, from: new Date(Date.now() - 7 * DAY_MS).toISOString() }, signal), 60000);
  const top = useLive((signal) => get(`${API}/skus`, { limit: 15 }, signal), 10000);
  const lost = useLive((signal) => get(`${API}/skus`, { limit: 15, by: "lost" }, signal), 10000);
  const users = useLive((signal) => get(`${API}/users`, { limit: 10 }, signal), 10000);
  const latest = useLive((signal) => get("/services/order/api/orders", { limit: 500 }, signal), 10000);
  const s = summary.data;
  const rows = series.data?.unit === unit ? series.data.rows : [];
  const skus = top.data?.skus;
  const most = Math.max(1, ...(skus ?? []).map((x) => x.sold));
  const units = html`<div class="row">${Object.keys(SPANS).map((name) => html`<button key=${name} aria-pressed=${unit === name} class=${unit === name ? "main" : ""} onClick=${() => setUnit(name)}>${name}</button>`)}</div>`;
  return html`<${Page} title="Analytics" sub="counted exactly once, live"><${Away} error=${summary.error ?? series.error ?? top.error ?? lost.error ?? users.error} />
    ${s && html`<div class="figures"><${Figure} name="orders" value=${num(s.orders)} /><${Figure} name="pending" value=${num(s.pending)} />${Object.entries(s.outcomes).map(([name, count]) => html`<${Figure} key=${name} name=${name.toLowerCase()} value=${num(count)} />`)}
      <${Figure} name="decision p50, all" value=${millis(s.decisionLatencyMs?.p50)} /><${Figure} name="decision p99, all" value=${millis(s.decisionLatencyMs?.p99)} /></div>`}
    <div class="grid wide"><${Card} title=${`Outcomes each ${unit}, ${SPANS[unit]}`} actions=${units}>${rows.length > 1 ? html`<${Chart} theme=${theme} label=${`outcomes each ${unit}`} at=${rows.map((r) => Date.parse(r[unit]) / 1000)} format=${num}
        series=${[["CONFIRMED", "--two"], ["REJECTED", "--three"], ["FAILED", "--four"]].map(([name, colour]) => ({ name: name.toLowerCase(), colour, values: rows.map((r) => r.outcomes[name] ?? 0) }))} />` : html`<p class="empty">There is a line from the second ${unit} on.</p>`}<//>
      <${Card} title="How long decisions took: the newest 500 orders"><${Histogram} orders=${latest.data?.orders ?? []} /><//></div>
    <${Card} title="When orders come: the last seven days by hour"><${Heat} hours=${week.data?.hours ?? []} /><//>
    <div class="grid wide"><${Card} title="Best sellers"><${Table} label="best sellers" rows=${skus?.filter((x) => x.sold > 0)} keyOf=${(x) => x.sku} empty="Nothing was sold yet." columns=${[
        { name: "SKU", of: (x) => html`<a href="#/stock/${enc(x.sku)}">${x.sku}</a>` }, { name: "sold", kind: "num", of: (x) => num(x.sold) }, { name: "sell-through", kind: "num", of: (x) => share(x.sellThrough) },
        { name: "share", quiet: true, kind: "wide", of: (x) => html`<div class="bar" aria-hidden="true"><i style="width:${(100 * x.sold) / most}%"></i></div>` }]} /><//>
      <${Card} title="Wanted and not there"><${Table} label="rejected for stock" rows=${lost.data?.skus.filter((x) => x.lost > 0)} keyOf=${(x) => x.sku} empty="Nothing was missing." columns=${[
        { name: "SKU", of: (x) => html`<a href="#/stock/${enc(x.sku)}">${x.sku}</a>` }, { name: "lost", kind: "num", of: (x) => html`<${Badge} of=${num(x.lost)} kind="warn" />` }, { name: "sold", kind: "num", of: (x) => num(x.sold) }]} /><//>
      <${Card} title="Users of the last day"><${Table} label="users" rows=${users.data?.users} keyOf=${(x) => x.userId} empty="Nobody ordered." columns=${[
        { name: "user", of: (x) => x.userId }, { name: "confirmed", kind: "num", of: (x) => num(x.outcomes.CONFIRMED) }, { name: "rejected", kind: "num", of: (x) => num(x.outcomes.REJECTED) }, { name: "failed", kind: "num", of: (x) => num(x.outcomes.FAILED) }]} /><//></div><//>`;
}

const EDGES = [2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
function Histogram({ orders }) {
  const took = orders.filter((o) => o.decidedAt).map((o) => Date.parse(o.decidedAt) - Date.parse(o.createdAt));
  const counts = new Array(EDGES.length + 1).fill(0);
  for (const t of took) counts[(EDGES.findIndex((e) => t <= e) + 1 || EDGES.length + 1) - 1]++;
  const bars = [...EDGES.map((e, n) => [`≤ ${millis(e)}`, counts[n]]), ["more", counts[EDGES.length]]];
  const most = Math.max(1, ...bars.map(([, c]) => c));
  if (!took.length) return html`<p class="empty">No order was decided yet.</p>`;
  return html`<${Table} label="latency histogram" rows=${bars} keyOf=${([name]) => name} columns=${[{ name: "took", kind: "tight", of: ([name]) => name }, { name: "orders", kind: "num tight", of: ([, c]) => num(c) },
    { name: "share", quiet: true, kind: "wide", of: ([, c]) => html`<div class="bar" aria-hidden="true"><i style="width:${(100 * c) / most}%"></i></div>` }]} />`;
}

function Heat({ hours }) {
  const sums = new Map();
  for (const m of hours) {
    const at = new Date(m.hour);
    const cell = `${at.getDay()} ${at.getHours()}`;
    sums.set(cell, (sums.get(cell) ?? 0) + ["CONFIRMED", "REJECTED", "FAILED"].reduce((a, name) => a + (m.outcomes[name] ?? 0), 0));
  }
  const most = Math.max(1, ...sums.values());
  const ofDay = [...Array(24).keys()];
  return html`<div class="scroll" tabindex="0" role="group" aria-label="heat map"><div class="heat" role="img" aria-label="orders by day and hour; the busiest hour has ${num(most)}">
    <span></span>${ofDay.map((n) => html`<span>${n % 3 ? "" : n}</span>`)}
    ${DAYS.map((day, d) => html`<span>${day}</span>${ofDay.map((n) => {
      const count = sums.get(`${d} ${n}`) ?? 0;
      return html`<i title="${day} ${n}:00, ${num(count)} orders" style="opacity:${count ? 0.15 + (0.85 * count) / most : 0.05}"></i>`;
    })}`)}</div></div>`;
}
