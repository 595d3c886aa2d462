// Orders: found, looked at, placed, cancelled, fulfilled.
import { act, ask, tell, Away, Badge, Card, Field, html, millis, num, Page, Payload, Table, Time, useFilter, useLive, useState } from "../lib/ui.js";
import { enc, get, query, send } from "../lib/api.js";

const STATES = ["PENDING", "CONFIRMED", "REJECTED", "FAILED", "CANCELLED", "EXPIRED", "FULFILLED"];
const LIMIT = 50;
// What is not sorted by an index says so: the API refuses it where too many fit.
const SORTS = { "-created": "newest first", created: "oldest first", "-took": "slowest decision first", took: "fastest decision first", "-decided": "decided last first", decided: "decided first" };

export default function Orders(props) {
  const { rest } = props.place;
  return rest.length ? html`<${Order} ...${props} id=${rest.join("/")} />` : html`<${List} ...${props} />`;
}

const itemsOf = (order) => (order.items ?? []).map((line) => `${num(line.qty)} × ${line.sku}`).join(", ");
const utc = (local) => (local ? new Date(local).toISOString() : undefined);

function List({ place, may }) {
  const [filter, search] = useFilter(place);
  const [cursors, setCursors] = useState([]);
  const wanted = { status: filter.status, userId: filter.userId, sku: filter.sku, from: utc(filter.from), to: utc(filter.to), sort: filter.sort };
  const cursor = cursors.at(-1);
  // The first page lives; one that was turned to stands still, so that nothing jumps.
  const { data, error, again } = useLive(
    (signal) => get("/services/order/api/orders", { ...wanted, limit: LIMIT, cursor }, signal), cursor ? 30000 : 2000, [JSON.stringify(filter), cursor]);
  const apply = (event) => {
    const id = new FormData(event.target).get("id").trim();
    event.preventDefault();
    if (id) location.hash = `#/orders/${enc(id)}`;
    else {
      setCursors([]);
      search(event);
    }
  };
  const columns = [
    { name: "order", of: (o) => html`<a href="#/orders/${enc(o.orderId)}">${String(o.orderId)}</a>` },
    { name: "status", kind: "tight", of: (o) => html`<${Badge} of=${o.status} />` },
    { name: "user", of: (o) => (o.userId === null ? "–" : String(o.userId)) },
    { name: "items", of: itemsOf },
    { name: "why", of: (o) => [o.reason, ...(o.short ?? [])].filter(Boolean).join(": ") || "–" },
    { name: "placed", kind: "tight", of: (o) => html`<${Time} at=${o.createdAt} />` },
    { name: "took", kind: "num", of: (o) => (o.decidedAt ? millis(Date.parse(o.decidedAt) - Date.parse(o.createdAt)) : "–") },
  ];
  const exported = (form) => `/console/orders.${form}${query(wanted)}`;
  return html`<${Page} title="Orders" sub="${SORTS[filter.sort] ?? SORTS["-created"]}; the first page is live" actions=${html`
      <a class="button" href=${exported("csv")} download>CSV</a><a class="button" href=${exported("ndjson")} download>NDJSON</a>
      ${may && html`<button class="main" onClick=${() => place_(again)}>Place an order</button>`}`}>
    <form class="filters" onSubmit=${apply} role="search">
      <${Field} label="order id"><input name="id" data-search placeholder="/" /><//>
      <${Field} label="user"><input name="userId" defaultValue=${filter.userId} size="10" /><//>
      <${Field} label="SKU"><input name="sku" defaultValue=${filter.sku} size="12" /><//>
      <${Field} label="status"><select name="status"><option value="">any</option>${STATES.map((s) => html`<option selected=${s === filter.status}>${s}</option>`)}</select><//>
      <${Field} label="from"><input type="datetime-local" name="from" defaultValue=${filter.from} /><//>
      <${Field} label="before"><input type="datetime-local" name="to" defaultValue=${filter.to} /><//>
      <${Field} label="sorted"><select name="sort">${Object.entries(SORTS).map(([s, name]) => html`<option value=${s === "-created" ? "" : s} selected=${s === (filter.sort ?? "-created")}>${name}</option>`)}</select><//>
      <button class="main">Search</button></form>
    <${Away} error=${error} />
    <${Card}><${Table} label="orders" columns=${columns} rows=${data?.orders} keyOf=${(o) => o.orderId} empty="No order fits." />
      <div class="row"><button disabled=${!cursors.length} onClick=${() => setCursors(cursors.slice(0, -1))}>Newer</button>
        <button disabled=${!data?.nextCursor} onClick=${() => setCursors([...cursors, data.nextCursor])}>Older</button></div><//><//>`;
}

// Not `randomUUID`: browsers have it over https and on this machine only.
const unique = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

const keys = {}; // Of orders whose answer did not come.

async function place_(again) {
  const said = await ask({
    title: "Place an order", yes: "Place it", text: "It is a real order: stock is reserved for it, and the customer is told.",
    body: html`<${Field} label="user id"><input name="userId" required value="1" /><//>
      <${Field} label="items, one a line: SKU and quantity"><textarea name="items" rows="4" required placeholder="MUG 2">MUG 1</textarea><//>
      <${Field} label="tell them at (e-mail)"><input name="email" type="email" placeholder="as the settings say" /><//>`,
  });
  if (!said) return;
  const items = said.items.split("\n").map((l) => l.trim()).filter(Boolean).map((line) => {
    const [, sku, qty] = line.match(/^(.*?)(?:\s+(\d+))?$/);
    return { sku, qty: Number(qty ?? 1) };
  });
  const userId = /^\d{1,15}$/.test(said.userId) ? Number(said.userId) : said.userId;
  // Waits for its page; what is sent again after an answer that got lost stays one order.
  const body = { userId, items, ...(said.email && { notify: { email: said.email } }) };
  const headers = { prefer: "wait=5", "idempotency-key": (keys[JSON.stringify(body)] ??= unique()) };
  const order = await act(() => send("POST", "/services/order/api/orders", body, headers), (o) => `Order ${o.orderId} is accepted.`);
  if (order) delete keys[JSON.stringify(body)];
  if (order) location.hash = `#/orders/${enc(order.orderId)}`;
  again();
}

function Order({ id, may }) {
  const path = `/services/order/api/orders/${enc(id)}`;
  const { data: order, error, again } = useLive((signal) => get(path, {}, signal), 1500, [id]);
  const told = useLive((signal) => get("/services/notification/api/notifications", { orderId: id }, signal), 5000, [id]);
  const cancel = async () => {
    const said = await ask({ title: `Cancel order ${id}?`, danger: true, yes: "Cancel the order", text: "What is reserved for it becomes free again. This is for good.",
      body: html`<${Field} label="reason (may be left out)"><input name="reason" maxlength="500" /><//>` });
    if (said) await act(() => send("POST", `${path}/cancel`, said.reason ? { reason: said.reason } : {}), `Order ${id} is cancelled.`), again();
  };
  const fulfil = async () => {
    if (await ask({ title: `Fulfil order ${id}?`, yes: "Fulfil it", text: "What was reserved has then left the shelf. This is for good." }))
      await act(() => send("POST", `${path}/fulfil`), `Order ${id} is fulfilled.`), again();
  };
  const actions = may && order && html`
    ${["PENDING", "CONFIRMED"].includes(order.status) && html`<button onClick=${cancel}>Cancel</button>`}
    ${order.status === "CONFIRMED" && html`<button class="main" onClick=${fulfil}>Fulfil</button>`}`;
  return html`<${Page} title="Order ${id}" sub=${html`<a href="#/orders">all orders</a>`} actions=${actions}>
    <${Away} error=${error} />
    ${order && html`<div class="grid wide"><${Card} title="What it is"><dl class="facts">
        <dt>status</dt><dd><${Badge} of=${order.status} /></dd>
        <dt>user</dt><dd>${order.userId === null ? "–" : html`<a href="#/orders${query({ userId: order.userId })}">${String(order.userId)}</a>`}</dd>
        ${order.owner && html`<dt>placed with key</dt><dd>${order.owner}</dd>`}
        <dt>items</dt><dd>${(order.items ?? []).map((l) => html`<div>${num(l.qty)} × <a href="#/stock/${enc(l.sku)}">${l.sku}</a></div>`)}</dd>
        ${order.reason && html`<dt>why</dt><dd>${order.reason}${order.short?.length ? `: ${order.short.join(", ")}` : ""}</dd>`}
        <dt>placed</dt><dd><${Time} at=${order.createdAt} /></dd><dt>decided</dt><dd><${Time} at=${order.decidedAt} /></dd></dl><//>
      <${Card} title="What the customer was told"><${Table} rows=${told.data?.notifications} keyOf=${(n) => n.id} empty="Nothing yet." columns=${[
        { name: "at", kind: "tight", of: (n) => html`<${Time} at=${n.createdAt} />` }, { name: "by", kind: "tight", of: (n) => n.channel },
        { name: "status", of: (n) => html`<${Badge} of=${n.status} />` }, { name: "text", of: (n) => n.text }]} /><//></div>
      <${Card} title="Timeline"><ol class="timeline">${order.timeline.map((e) => html`<${Event} key=${e.topic + e.partition + e.offset} event=${e} />`)}</ol><//>`}
  <//>`;
}

function Event({ event }) {
  const [record, setRecord] = useState(null);
  const look = async (e) => {
    if (!e.target.open || record) return;
    const wanted = { start: event.offset, partition: event.partition, limit: 1 };
    const found = await get(`/console/topics/${enc(event.topic)}/records`, wanted).catch((error) => tell(error.message, "bad"));
    if (found) setRecord(found.records.find((r) => r.offset === event.offset) ?? { gone: true });
    else e.target.open = false;
  };
  return html`<li><b>${event.type}</b> <span class="soft"><${Time} at=${event.at} /></span>
    ${event.by && html` <span>by ${event.by}</span>`}${event.cause && html` <span class="soft">${event.cause}</span>`}
    <div class="mono soft"><a href="#/topics/${enc(event.topic)}${query({ start: event.offset, partition: event.partition })}">${event.topic}</a>, partition ${event.partition}, offset ${num(event.offset)}</div>
    <details onToggle=${look}><summary>record and headers</summary>${
      !record ? html`<p class="soft">…</p>` : record.gone ? html`<p class="soft">Kafka has deleted it.</p>`
      : html`<${Payload} text=${record.value} hex=${record.valueHex} /><${Headers} headers=${record.headers} />`}</details></li>`;
}

export const Headers = ({ headers }) => headers?.length
  ? html`<h3>Headers</h3><dl class="facts mono">${headers.map((h) => html`<dt>${h.name}</dt><dd>${String(h.value)}</dd>`)}</dl>` : null;
