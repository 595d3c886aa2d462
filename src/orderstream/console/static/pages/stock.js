// Stock: what is there, what is reserved, who holds it.
import { act, ask, Away, Badge, Card, Field, html, num, Page, Table, Time, useLive, useState } from "../lib/ui.js";
import { enc, get, query, send, sendText } from "../lib/api.js";

const LIMIT = 100;
const LOW_DEFAULT = 10;

export default function Stock(props) {
  const { rest } = props.place;
  return rest.length ? html`<${One} ...${props} sku=${rest.join("/")} />` : html`<${List} ...${props} />`;
}

const low = () => Number(localStorage.getItem("low-stock") ?? LOW_DEFAULT);
const Level = ({ of, mark }) => html`${num(of.available)} ${of.available <= mark ? html`<${Badge} of=${of.available ? "low" : "none"} kind=${of.available ? "warn" : "bad"} />` : null}`;

function List({ may }) {
  const [afters, setAfters] = useState([]);
  const [mark, setMark] = useState(low);
  const after = afters.at(-1);
  const { data, error, again } = useLive((signal) => get("/services/inventory/api/stock", { limit: LIMIT, after }, signal), 2000, [after]);
  const find = (event) => {
    event.preventDefault();
    const sku = new FormData(event.target).get("sku").trim();
    if (sku) location.hash = `#/stock/${enc(sku)}`;
  };
  const setLow = (event) => {
    localStorage.setItem("low-stock", event.target.value);
    setMark(Number(event.target.value));
  };
  const columns = [
    { name: "SKU", of: (s) => html`<a href="#/stock/${enc(s.sku)}">${s.sku}</a>` },
    { name: "on hand", kind: "num", of: (s) => num(s.onHand) },
    { name: "reserved", kind: "num", of: (s) => num(s.reserved) },
    { name: "available", kind: "num", of: (s) => html`<${Level} of=${s} mark=${mark} />` },
    ...(may ? [{ name: "actions", quiet: true, kind: "tight right", of: (s) => html`<button class="plain" aria-label="Set what is on hand of ${s.sku}" onClick=${() => set(s, again)}>Set</button>
      <button class="plain" aria-label="Adjust ${s.sku}" onClick=${() => adjust(s, again)}>Adjust</button>` }] : []),
  ];
  return html`<${Page} title="Stock" sub="on hand = reserved + available; live" actions=${may && html`
      <button onClick=${() => bring(again)}>Import CSV</button><button class="main" onClick=${() => set({ sku: "", onHand: 0 }, again)}>New SKU</button>`}>
    <form class="filters" onSubmit=${find} role="search"><${Field} label="SKU"><input name="sku" data-search placeholder="/" /><//><button class="main">Find</button>
      <${Field} label="low from"><input type="number" min="0" value=${mark} onInput=${setLow} size="6" /><//></form>
    <${Away} error=${error} />
    <${Card}><${Table} label="stock" columns=${columns} rows=${data?.stock} keyOf=${(s) => s.sku} empty="Nothing was ever stocked." />
      <div class="row"><button disabled=${!afters.length} onClick=${() => setAfters(afters.slice(0, -1))}>Back</button>
        <button disabled=${!data?.nextAfter} onClick=${() => setAfters([...afters, data.nextAfter])}>On</button></div><//><//>`;
}

async function set(level, again) {
  const said = await ask({ title: level.sku ? `What is on hand of ${level.sku}?` : "A new SKU", yes: "Set it",
    text: "What orders have reserved stays reserved: less than that is refused.",
    body: html`${!level.sku && html`<${Field} label="SKU"><input name="sku" required maxlength="64" /><//>`}
      <${Field} label="on hand"><input name="onHand" type="number" min="0" max="1000000000000" required defaultValue=${level.onHand} /><//>` });
  if (!said) return;
  const sku = level.sku || said.sku;
  await act(() => send("PUT", `/services/inventory/api/stock/${enc(sku)}`, { onHand: Number(said.onHand) }), (s) => `${s.sku}: ${num(s.onHand)} on hand, ${num(s.available)} available.`);
  again();
}

async function adjust(level, again) {
  const said = await ask({ title: `Adjust ${level.sku}`, yes: "Adjust it", text: `${num(level.onHand)} are on hand, ${num(level.reserved)} of them reserved.`,
    body: html`<${Field} label="what came in, or with a minus went out"><input name="change" type="number" required /><//>` });
  if (!said) return;
  await act(() => send("POST", `/services/inventory/api/stock/${enc(level.sku)}/adjust`, { change: Number(said.change) }), (s) => `${s.sku}: ${num(s.onHand)} on hand.`);
  again();
}

// A CSV is read here first, and what it changes is shown before anything is changed.
async function bring(again) {
  const chosen = await ask({ title: "Import stock from CSV", yes: "Show what changes", text: "Two columns: sku, onHand. All lines are taken, or none.",
    body: html`<${Field} label="file"><input name="file" type="file" accept=".csv,text/csv,text/plain" /><//>
      <${Field} label="or text"><textarea name="text" rows="6" placeholder="MUG,50"></textarea><//>` });
  if (!chosen) return;
  const file = chosen.file?.size ? chosen.file : null;
  const text = file ? await file.text() : chosen.text;
  const rows = text.split(/\r?\n/).map((l) => l.trim()).filter(Boolean).filter((l, n) => n || !/^"?sku"?\s*,/i.test(l)).map((l) => {
    const cut = l.lastIndexOf(",");
    return { sku: l.slice(0, cut).trim().replace(/^"(.*)"$/, "$1").replaceAll('""', '"'), onHand: l.slice(cut + 1).trim() };
  });
  const preview = rows.slice(0, 200);
  const now = await Promise.all(preview.map((r) => get(`/services/inventory/api/stock/${enc(r.sku)}`).catch((error) => (error.status === 404 ? null : { onHand: undefined, reserved: 0 }))));
  const said = await ask({ title: `${num(rows.length)} lines`, yes: "Import all of them", text: rows.length > preview.length ? `The first ${preview.length} are shown.` : "This is what changes.",
    body: html`<${Table} rows=${preview.map((r, n) => ({ ...r, was: now[n] }))} columns=${[
      { name: "SKU", of: (r) => r.sku }, { name: "now", kind: "num", of: (r) => (r.was ? num(r.was.onHand) : "new") },
      { name: "then", kind: "num", of: (r) => html`<b class=${r.was && Number(r.onHand) < r.was.reserved ? "bad" : ""}>${/^\d+$/.test(r.onHand) ? num(Number(r.onHand)) : `${r.onHand} (no number)`}</b>` }]} />` });
  if (said) await act(() => sendText("POST", "/services/inventory/api/stock:import", file ?? text, "text/csv"), (r) => `${num(r.imported)} SKUs are set.`);
  again();
}

function One({ sku, may }) {
  const { data, error, again } = useLive((signal) => get(`/services/inventory/api/stock/${enc(sku)}`, {}, signal), 2000, [sku]);
  const holders = useLive((signal) => get("/services/order/api/orders", { sku, status: "CONFIRMED", limit: 50 }, signal), 5000, [sku]);
  return html`<${Page} title=${sku} sub=${html`<a href="#/stock">all stock</a>`} actions=${may && data && html`
      <button onClick=${() => adjust(data, again)}>Adjust</button><button class="main" onClick=${() => set(data, again)}>Set</button>`}>
    <${Away} error=${error} />
    ${data && html`<${Card} title="Levels"><dl class="facts"><dt>on hand</dt><dd>${num(data.onHand)}</dd><dt>reserved</dt><dd>${num(data.reserved)}</dd>
      <dt>available</dt><dd><${Level} of=${data} mark=${low()} /></dd></dl><//>`}
    <${Card} title="Who holds it" actions=${html`<a href="#/orders${query({ sku })}">all orders for it</a>`}><${Away} error=${holders.error} />
      <${Table} label="orders that hold it" rows=${holders.data?.orders} keyOf=${(o) => o.orderId} empty="No confirmed order." columns=${[
        { name: "order", of: (o) => html`<a href="#/orders/${enc(o.orderId)}">${String(o.orderId)}</a>` },
        { name: "user", of: (o) => (o.userId === null ? "–" : String(o.userId)) },
        { name: "quantity", kind: "num", of: (o) => num(o.items.filter((l) => l.sku === sku).reduce((a, l) => a + l.qty, 0)) },
        { name: "placed", kind: "tight", of: (o) => html`<${Time} at=${o.createdAt} />` }]} /><//><//>`;
}
