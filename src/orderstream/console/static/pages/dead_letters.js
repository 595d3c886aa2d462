// Dead letters: what could not be processed, why, and what becomes of it.
import { act, ask, Away, Badge, Card, Field, html, num, Page, Payload, Table, tell, Time, useFilter, useLive, useState } from "../lib/ui.js";
import { enc, get, send } from "../lib/api.js";
import { Headers } from "./orders.js";

const API = "/services/order/api/dead-letters";
const AT_ONCE = 200; // Of a bulk, so that its progress is seen.
const PAGE = 50; // Of one cause.

export default function DeadLetters(props) {
  const { rest } = props.place;
  return rest.length ? html`<${One} ...${props} at=${rest.join("/")} />` : html`<${List} ...${props} />`;
}

const FILTERS = ["topic", "reason", "order", "group"];
const orderOf = (d) => (d.order ? html`<a href="#/orders/${enc(d.order)}">${d.order}</a>` : "–");

function List({ place, may, onLetters }) {
  const [filter, apply] = useFilter(place);
  const wanted = Object.fromEntries(FILTERS.map((f) => [f, filter[f]]));
  const [work, setWork] = useState(null);
  const all = !Object.values(wanted).some(Boolean) && !filter.handled;
  const { data, error, again } = useLive(async (signal) => {
    const found = await get(`${API}:causes`, { ...wanted, handled: filter.handled }, signal);
    if (all) onLetters(found.count);
    return found;
  }, 3000, [JSON.stringify(filter)]);
  const bulk = async (verb, cause) => {
    // None that is parked from now on: nobody was asked about those.
    const newest = Math.max(...data.causes.map((c) => Date.parse(c.last)));
    const parts = { ...Object.fromEntries(Object.entries({ ...wanted, cause }).filter(([, v]) => v)), to: new Date(newest + 1).toISOString() };
    const redrives = verb === "redrive";
    const { count } = await get(`${API}:causes`, parts).catch((error_) => (tell(error_.message, "bad"), {}));
    if (count === undefined) return;
    const said = await ask({ title: `${redrives ? "Redrive" : "Discard"} ${num(count)} dead letters?`, danger: !redrives, yes: redrives ? "Redrive them" : "Discard them",
      text: `${cause ? `Those of the cause “${cause}”. ` : ""}${redrives ? "Each goes back to its topic once, and is tried from the beginning. Doing it twice doubles nothing." : "They are not tried again; their orders stay FAILED."}`,
      body: html`<${Field} label="note${redrives ? " (may be left out)" : ""}"><input name="note" required=${!redrives} maxlength="500" /><//>` });
    if (!said) return;
    let done = 0;
    const left = new Set();
    setWork({ verb, done, count });
    try {
      for (;;) {
        const result = await send("POST", `${API}:${verb}`, { ...parts, limit: AT_ONCE, ...(said.note ? { note: said.note } : {}) });
        const moved = result.redriven ?? result.discarded ?? 0;
        for (const at of result.nowhere ?? []) left.add(`${at} does not say where it came from`);
        done += moved;
        setWork({ verb, done, count: Math.max(count, done) });
        if (!moved) break;
      }
      tell(`${num(done)} ${redrives ? "redriven" : "discarded"}.${left.size ? ` Left: ${[...left].slice(0, 5).join("; ")}` : ""}`, left.size ? "bad" : "");
    } catch (error_) {
      tell(`${num(done)} done, then: ${error_.message}`, "bad");
    }
    setWork(null);
    again();
  };
  const busy = Boolean(work);
  return html`<${Page} title="Dead letters" sub="records that kept failing, by cause; live" actions=${may && data?.count > 0 && !filter.handled && html`
      <button disabled=${busy} onClick=${() => bulk("discard")}>Discard all that fit</button><button class="main" disabled=${busy} onClick=${() => bulk("redrive")}>Redrive all that fit</button>`}>
    <form class="filters" onSubmit=${apply} role="search">${FILTERS.map((f) => html`<${Field} label=${f}><input name=${f} defaultValue=${filter[f]} data-search=${f === "reason" ? true : undefined} size="14" /><//>`)}
      <${Field} label="show"><select name="handled"><option value="">open</option><option value="true" selected=${filter.handled === "true"}>handled too</option></select><//><button class="main">Search</button></form>
    <${Away} error=${error} />
    ${work && html`<div class="card" role="status">${work.verb === "redrive" ? "Redriving" : "Discarding"}: ${num(work.done)} of ${num(work.count)}
      <progress max=${work.count} value=${work.done} aria-label="progress">${work.done}</progress></div>`}
    ${data && !data.count && html`<${Card}><p class="empty">No dead letter fits. Good.</p><//>`}
    ${data?.causes.map((of) => html`<${Cause} key=${of.cause} of=${of} wanted=${{ ...wanted, handled: filter.handled }} actions=${may && !filter.handled && html`
      <button disabled=${busy} onClick=${() => bulk("discard", of.cause)}>Discard</button><button disabled=${busy} onClick=${() => bulk("redrive", of.cause)}>Redrive</button>`} />`)}<//>`;
}

const COLUMNS = [
  { name: "parked", kind: "tight", of: (d) => html`<${Time} at=${d.parkedAt} />` },
  { name: "order", of: orderOf }, { name: "from", of: (d) => html`<span class="mono">${d.origin?.topic ?? "?"}</span>` },
  { name: "reason", of: (d) => html`<a href="#/dead-letters/${enc(d.place)}">${d.reason || d.exception || d.place}</a>` },
  { name: "times", kind: "num", of: (d) => num(d.times) },
  { name: "state", kind: "tight", of: (d) => (d.handled ? html`<${Badge} of=${d.handled.action} kind="calm" /> <span class="soft">by ${d.handled.by}</span>` : html`<${Badge} of="open" kind="bad" />`) },
];

// One cause, newest first; what stands below the first page is turned to.
function Cause({ of, wanted, actions }) {
  const [cursors, setCursors] = useState([]);
  const { data, error } = useLive((signal) => get(API, { ...wanted, cause: of.cause, limit: PAGE, cursor: cursors.at(-1) }, signal),
    cursors.length ? 0 : 10000, [JSON.stringify(wanted), of.count, cursors.at(-1)]);
  return html`<${Card} title="${of.cause} (${num(of.count)})" actions=${actions}><${Away} error=${error} />
    <${Table} label=${of.cause} rows=${data?.deadLetters} columns=${COLUMNS} keyOf=${(d) => d.place} />
    ${(data?.nextCursor || cursors.length > 0) && html`<div class="row"><button disabled=${!cursors.length} onClick=${() => setCursors(cursors.slice(0, -1))}>Newer</button>
      <button disabled=${!data?.nextCursor} onClick=${() => setCursors([...cursors, data.nextCursor])}>Older</button></div>`}<//>`;
}

function One({ at, may }) {
  const path = `${API}/${enc(at)}`;
  const { data: d, error, again } = useLive((signal) => get(path, {}, signal), 5000, [at]);
  const redrive = async () => {
    if (await ask({ title: "Redrive it?", yes: "Redrive it", text: `It goes back to ${d.origin?.topic} as it is, and is tried from the beginning.` }))
      await act(() => send("POST", `${path}/redrive`), (r) => (r.redriven ? "Redriven." : "It had been handled before: nothing was done.")), again();
  };
  const edit = async () => {
    const said = await ask({ title: "Edit and redrive", yes: "Redrive the edited record", text: "The dead letter itself stays as it is, with its history.",
      body: html`<${Field} label="value"><textarea name="value" rows="12">${d.value}</textarea><//><${Field} label="note (may be left out)"><input name="note" maxlength="500" /><//>` });
    if (said) await act(() => send("POST", `${path}/redrive`, { ...(said.value === d.value ? {} : { value: said.value }), ...(said.note ? { note: said.note } : {}) }), said.value === d.value ? "Redriven as it was." : "Redriven as edited."), again();
  };
  const discard = async () => {
    const said = await ask({ title: "Discard it?", danger: true, yes: "Discard it", text: "It is not tried again; its order stays FAILED.", body: html`<${Field} label="why"><input name="note" required maxlength="500" /><//>` });
    if (said) await act(() => send("POST", `${path}/discard`, { note: said.note }), "Discarded."), again();
  };
  return html`<${Page} title="Dead letter" sub=${html`<a href="#/dead-letters">all dead letters</a> <span class="mono">${at}</span>`} actions=${may && d && !d.handled && html`
      <button onClick=${discard}>Discard</button>${/^0x[0-9a-f]*$/.test(d.value ?? "0x") ? null : html`<button onClick=${edit}>Edit and redrive</button>`}<button class="main" onClick=${redrive}>Redrive</button>`}>
    <${Away} error=${error} />
    ${d && html`<div class="grid wide"><${Card} title="Why"><dl class="facts"><dt>reason</dt><dd>${d.reason}</dd><dt>exception</dt><dd class="mono">${d.exception}</dd>
        <dt>order</dt><dd>${orderOf(d)}</dd><dt>parked</dt><dd><${Time} at=${d.parkedAt} /></dd><dt>from</dt><dd class="mono">${d.origin ? `${d.origin.topic}[${d.origin.partition}]@${d.origin.offset}` : "?"}</dd>
        <dt>by</dt><dd>${d.origin?.group ?? "–"}</dd><dt>times</dt><dd>${num(d.times)}</dd></dl><//>
      <${Card} title="What was done">${d.handled ? html`<dl class="facts">${Object.entries(d.handled).map(([k, v]) => html`<dt>${k}</dt><dd>${k === "at" ? html`<${Time} at=${v} />` : typeof v === "object" ? JSON.stringify(v) : String(v)}</dd>`)}</dl>` : html`<p class="soft">Nothing yet: it is open.</p>`}
        <h3>Each time that it failed</h3><${Payload} text=${JSON.stringify(d.passes)} /><//></div>
      <${Card} title="Payload"><${Payload} text=${d.value} /><${Headers} headers=${d.headers} /><//>
      ${d.stacktrace && html`<${Card} title="Stack trace"><pre>${d.stacktrace}</pre><//>`}`}<//>`;
}
