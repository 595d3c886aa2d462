// Topics: their records, partitions and settings.
import { act, ask, Away, Badge, bytes, Card, Field, html, num, Page, Payload, Table, tell, Time, useEffect, useLive, useState } from "../lib/ui.js";
import { enc, get, query, send } from "../lib/api.js";
import { Headers } from "./orders.js";

const placeOf = (r) => `${r.partition}@${r.offset}`;
const KEPT = 200; // Of a live tail.

export default function Topics(props) {
  const { rest } = props.place;
  return rest.length ? html`<${One} ...${props} topic=${rest.join("/")} />` : html`<${List} />`;
}

function List() {
  const [text, setText] = useState("");
  const { data, error } = useLive((signal) => get("/console/topics", {}, signal), 5000);
  const rows = data?.topics.filter((t) => t.name.toLowerCase().includes(text.toLowerCase()));
  return html`<${Page} title="Topics" sub="live; ends of transactions count among the offsets, sizes are of one replica on disk">
    <form class="filters" role="search" onSubmit=${(e) => e.preventDefault()}><${Field} label="name"><input data-search placeholder="/" value=${text} onInput=${(e) => setText(e.target.value)} /><//></form>
    <${Away} error=${error} />
    <${Card}><${Table} label="topics" rows=${rows} keyOf=${(t) => t.name} empty="No topic fits." columns=${[
      { name: "topic", of: (t) => html`<a class="mono" href="#/topics/${enc(t.name)}">${t.name}</a>` }, { name: "partitions", kind: "num", of: (t) => num(t.partitions) },
      { name: "replicas", kind: "num", of: (t) => num(t.replication) }, { name: "offsets", kind: "num", of: (t) => num(t.records) }, { name: "size", kind: "num", of: (t) => html`<span title="${num(t.bytes)} bytes of one replica">${bytes(t.bytes)}</span>` }]} /><//><//>`;
}

function startOf(parts) {
  if (parts.start === "time") return parts.time ? `@${new Date(parts.time).getTime()}` : "beginning";
  if (parts.start === "offset") return parts.offset || "0";
  return parts.start;
}

function One({ topic, place, may }) {
  const path = `/console/topics/${enc(topic)}`;
  const about = useLive((signal) => get(path, {}, signal), 5000, [topic]);
  const given = place.query;
  const first = given.start === undefined ? "newest" : /^\d+$/.test(given.start) ? "offset" : given.start;
  const [parts, setParts] = useState({ start: first, offset: given.start, partition: given.partition ?? "", key: "", text: "", header: "", limit: 50 });
  const [found, setFound] = useState(null);
  const [busy, setBusy] = useState(false);
  const [live, setLive] = useState(false);
  const wanted = (p) => ({ start: startOf(p), partition: p.partition, key: p.key, text: p.text, header: p.header, limit: p.limit });
  const search = async (p) => {
    setBusy(true);
    try {
      setFound(await get(`${path}/records`, wanted(p)));
    } catch (error) {
      tell(error.message, "bad");
    }
    setBusy(false);
  };
  useEffect(() => {
    search(parts);
  }, [topic]);
  useEffect(() => {
    if (!live) return undefined;
    const events = new EventSource(`${path}/tail${query({ ...wanted(parts), start: undefined })}`);
    events.onmessage = (event) => {
      const came = JSON.parse(event.data).reverse();
      setFound((was) => {
        const known = new Set((was?.records ?? []).map(placeOf));
        return { ...was, records: [...came.filter((r) => !known.has(placeOf(r))), ...(was?.records ?? [])].slice(0, KEPT) };
      });
    };
    // A stream that was refused is not opened again by the browser.
    events.onerror = () => events.readyState === EventSource.CLOSED && (tell("The live tail has ended.", "bad"), setLive(false));
    return () => events.close();
  }, [live, topic, JSON.stringify(wanted(parts))]);
  const apply = (event) => {
    event.preventDefault();
    const said = { ...parts, ...Object.fromEntries(new FormData(event.target)) };
    setParts(said);
    search(said);
  };
  const columns = [
    { name: "at", kind: "tight", of: (r) => html`<span class="mono">${r.partition} @ ${num(r.offset)}</span>` },
    { name: "time", kind: "tight", of: (r) => html`<${Time} at=${r.time} />` },
    { name: "key", kind: "word", of: (r) => html`<span class="mono">${r.key ?? r.keyHex ?? "–"}</span>` },
    { name: "record", of: (r) => html`<details><summary class="mono">${preview(r)}</summary><${Payload} text=${r.value} hex=${r.valueHex} /><${Headers} headers=${r.headers} /></details>` },
  ];
  const download = (form) => {
    const lines = found.records.map((r) => JSON.stringify(r));
    const body = form === "json" ? `[${lines.join(",\n")}]\n` : lines.join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([body], { type: "application/json" }));
    link.download = `${topic}.${form}`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return html`<${Page} title=${topic} sub=${html`<a href="#/topics">all topics</a>`} actions=${html`
      <button aria-pressed=${live} onClick=${() => setLive(!live)}>${live ? "Stop the live tail" : "Live tail"}</button>
      ${may && html`<button onClick=${() => produce(path, topic)}>Produce a record</button>`}`}>
    <form class="filters" onSubmit=${apply} role="search">
      <${Field} label="from"><select name="start" value=${parts.start} onChange=${(e) => setParts({ ...parts, start: e.target.value })}><option value="newest">newest</option><option value="beginning">beginning</option><option value="offset">offset</option><option value="time">time</option></select><//>
      ${parts.start === "offset" && html`<${Field} label="offset"><input name="offset" inputmode="numeric" pattern="[0-9]+" defaultValue=${parts.offset} size="9" /><//>`}
      ${parts.start === "time" && html`<${Field} label="time"><input name="time" type="datetime-local" step="1" /><//>`}
      <${Field} label="partition"><select name="partition"><option value="">all</option>${(about.data?.partitions ?? []).map((p) => html`<option value=${p.partition} selected=${String(p.partition) === String(parts.partition)}>${p.partition}</option>`)}</select><//>
      <${Field} label="key has"><input name="key" size="12" defaultValue=${parts.key} /><//><${Field} label="text has"><input name="text" data-search placeholder="/" size="14" defaultValue=${parts.text} /><//>
      <${Field} label="header has"><input name="header" size="14" placeholder="name=value" defaultValue=${parts.header} /><//>
      <${Field} label="at most"><input name="limit" type="number" min="1" max="500" defaultValue=${parts.limit} /><//><button class="main" disabled=${busy}>${busy ? "Reading …" : "Search"}</button></form>
    <${Away} error=${about.error} />
    <${Card} title="Records" actions=${found?.records.length > 0 && html`<button onClick=${() => download("json")}>JSON</button><button onClick=${() => download("ndjson")}>NDJSON</button>`}>
      <p class="soft" role="status">${found ? `${num(found.records.length)} shown, ${num(found.looked)} looked at${found.whole ? "" : "; there may be more: narrow it, or go on from an offset"}` : "…"}${live ? "; live" : ""}</p>
      <${Table} label="records" rows=${found?.records} columns=${columns} keyOf=${placeOf} empty="No record fits." /><//>
    ${about.data && html`<div class="grid wide"><${Card} title="Partitions"><${Table} label="partitions" rows=${about.data.partitions} keyOf=${(p) => p.partition} columns=${[
      { name: "partition", kind: "num", of: (p) => p.partition }, { name: "leader", kind: "num", of: (p) => p.leader }, { name: "replicas", of: (p) => p.replicas.join(", ") },
      { name: "in sync", of: (p) => html`${p.inSync.join(", ")} ${p.inSync.length < p.replicas.length ? html`<${Badge} of="behind" kind="bad" />` : null}` },
      { name: "begin", kind: "num", of: (p) => num(p.begin) }, { name: "end", kind: "num", of: (p) => num(p.end) }, { name: "size", kind: "num", of: (p) => bytes(p.bytes) }]} /><//>
      <${Card} title="Settings"><details><summary>all ${about.data.config.length}</summary><${Settings} rows=${about.data.config} /></details><${Settings} rows=${about.data.config.filter((c) => c.own)} /><//></div>`}<//>`;
}

const Settings = ({ rows }) => html`<dl class="facts mono">${rows.map((c) => html`<dt>${c.name}</dt><dd>${c.value}</dd>`)}</dl>`;
const preview = (r) => (r.value !== undefined && r.value !== null ? r.value.slice(0, 160) : r.valueHex ? `0x${r.valueHex.slice(0, 80)}` : "no value");

async function produce(path, topic) {
  const said = await ask({ title: `A record for ${topic}`, yes: "Write it", danger: true, text: "It is written for good, and read by every service that reads this topic.",
    body: html`<${Field} label="key (may be empty)"><input name="key" /><//><${Field} label="value"><textarea name="value" rows="8"></textarea><//>
      <${Field} label="headers, one a line: name=value"><textarea name="headers" rows="3"></textarea><//><${Field} label="partition (by the key unless given)"><input name="partition" inputmode="numeric" pattern="[0-9]*" /><//>` });
  if (!said) return;
  const headers = Object.fromEntries(said.headers.split("\n").filter((l) => l.includes("=")).map((l) => [l.slice(0, l.indexOf("=")), l.slice(l.indexOf("=") + 1)]));
  await act(() => send("POST", `${path}/records`, { key: said.key || null, value: said.value, headers, partition: said.partition === "" ? null : Number(said.partition) }),
    (r) => `Written to ${r.topic}, partition ${r.partition}, offset ${num(r.offset)}.`);
}
