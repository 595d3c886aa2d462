// Consumer groups: who reads, how far behind, and from where on they shall read.
import { act, ask, tell, Away, Badge, Card, Field, html, num, Page, Table, useLive, useRef } from "../lib/ui.js";
import { enc, get, send } from "../lib/api.js";
import { Chart } from "../lib/chart.js";

const KEPT = 300;

export default function Consumers(props) {
  const { rest } = props.place;
  return rest.length ? html`<${One} ...${props} group=${rest.join("/")} />` : html`<${List} />`;
}

const State = ({ of }) => html`<${Badge} of=${of.toLowerCase()} kind=${/stable/i.test(of) ? "good" : /empty|none/i.test(of) ? "calm" : "warn"} />`;

function List() {
  const { data, error } = useLive((signal) => get("/console/groups", {}, signal), 3000);
  return html`<${Page} title="Consumers" sub="every consumer group of this Kafka, live"><${Away} error=${error} />
    <${Card}><${Table} label="groups" rows=${data?.groups} keyOf=${(g) => g.group} empty="No group has read anything yet." columns=${[
      { name: "group", of: (g) => html`<a class="mono" href="#/consumers/${enc(g.group)}">${g.group}</a>` }, { name: "service", of: (g) => g.service ?? "–" },
      { name: "state", kind: "tight", of: (g) => html`<${State} of=${g.state} />` }, { name: "members", kind: "num", of: (g) => num(g.members) },
      { name: "topics", of: (g) => html`<span class="mono">${g.topics.join(", ")}</span>` }, { name: "lag", kind: "num", of: (g) => html`<b>${num(g.behind)}</b>` }]} /><//><//>`;
}

// order.created 0–3, order.created.DLT 0, 2
function assigned(partitions) {
  const of = {};
  for (const [topic, n] of partitions) (of[topic] ??= []).push(n);
  const runs = (numbers) => {
    const found = [];
    for (const n of numbers.sort((a, b) => a - b)) {
      if (found.length && found.at(-1)[1] === n - 1) found.at(-1)[1] = n;
      else found.push([n, n]);
    }
    return found.map(([a, b]) => (a === b ? a : `${a}–${b}`)).join(", ");
  };
  const topics = Object.keys(of).sort();
  return topics.length ? topics.map((t) => html`<div><span class="mono">${t}</span> ${runs(of[t])}</div>`) : "none";
}

function One({ group, may, theme }) {
  const seen = useRef([]);
  const { data, error, again } = useLive(async (signal) => {
    const found = await get(`/console/groups/${enc(group)}`, {}, signal);
    const behind = {};
    for (const p of found.partitions) behind[p.topic] = (behind[p.topic] ?? 0) + p.behind;
    seen.current = [...seen.current, { at: Date.now() / 1000, behind }].slice(-KEPT);
    return { ...found, seen: seen.current };
  }, 2000, [group]);
  const topics = [...new Set((data?.partitions ?? []).map((p) => p.topic))];
  return html`<${Page} title=${group} sub=${html`<a href="#/consumers">all groups</a>${data?.service ? html` · ${data.own ? "your own consumer" : "the service"} ${data.service}` : ""}`}
      actions=${may && data && html`<button onClick=${() => reset(data, topics, again)}>${data.service ? "Replay" : "Reset offsets"}</button>`}>
    <${Away} error=${error} />
    ${data && html`${data.seen.length > 1 && html`<${Card} title="Lag since this page was opened"><${Chart} theme=${theme} label="lag by topic" at=${data.seen.map((s) => s.at)} format=${num}
      series=${topics.slice(0, 6).map((t) => ({ name: t, values: data.seen.map((s) => s.behind[t] ?? null) }))} /><//>`}
      <${Card} title="Members"><p>state <${State} of=${data.state} /></p><${Table} label="members" rows=${data.members} keyOf=${(m) => m.client + m.host} empty="Nobody is in it." columns=${[
        { name: "client", kind: "word", of: (m) => html`<span class="mono">${m.client}</span>` }, { name: "host", kind: "word", of: (m) => m.host }, { name: "partitions", of: (m) => assigned(m.partitions) }]} /><//>
      <${Card} title="Partitions"><${Table} label="partitions" rows=${data.partitions} keyOf=${(p) => p.topic + p.partition} empty="It has committed nothing." columns=${[
        { name: "topic", of: (p) => html`<a class="mono" href="#/topics/${enc(p.topic)}">${p.topic}</a>` }, { name: "partition", kind: "num", of: (p) => p.partition },
        { name: "committed", kind: "num", of: (p) => num(p.committed) }, { name: "end", kind: "num", of: (p) => num(p.end) },
        { name: "lag", kind: "num", of: (p) => html`<b>${num(p.behind)}</b>` }, { name: "member", of: (p) => html`<span class="mono">${p.member ?? "–"}</span>` }]} /><//>`}<//>`;
}

// First what it would do, then, asked once more, doing it.
async function reset(group, topics, again) {
  const ours = Boolean(group.service);
  const said = await ask({ title: ours ? `Have ${group.service} read again` : `Reset ${group.group}`, yes: "Show what it would do",
    text: group.own ? "Stop it first. It handles all of it again and publishes none of it again; nothing unread is passed over." : ours ? "It is stopped for it and started again. Nothing is reserved, told or counted twice; nothing unread is passed over." : "Kafka allows it while nobody is in the group.",
    body: html`<${Field} label="from"><select name="to"><option value="beginning">the beginning</option>${!ours && html`<option value="end">the end</option>`}<option value="time">a time</option><option value="number">an offset${ours ? "" : ", or +10 and -10"}</option></select><//>
      <${Field} label="time"><input name="time" type="datetime-local" step="1" /><//><${Field} label="offset"><input name="number" size="10" /><//>
      ${!ours && html`<${Field} label="topic"><select name="topic"><option value="">all</option>${topics.map((t) => html`<option>${t}</option>`)}</select><//>`}` });
  if (!said) return;
  if (said.to === "time" && !said.time) {
    tell("Say which time.", "bad");
    return;
  }
  const to = said.to === "time" ? `@${new Date(said.time).getTime()}` : said.to === "number" ? said.number.trim() : said.to;
  const path = `/console/groups/${enc(group.group)}/reset`;
  const wanted = { to, topic: said.topic || null };
  const plan = await act(() => send("POST", path, { ...wanted, dryRun: true }), "A dry run: nothing was done yet.");
  if (!plan) return;
  const sure = await ask({ title: "This is what it would do", danger: true, yes: "Do it", text: plan.rebuild ? "Its rows are emptied and built anew from the log." : group.own ? "Its rows are kept: what is read again is added to them." : plan.members ? `It has ${plan.members} members: Kafka will refuse.` : "",
    body: html`<${Table} label="what changes" rows=${plan.partitions} columns=${[{ name: "topic", of: (p) => html`<span class="mono">${p.topic}</span>` }, { name: "partition", kind: "num", of: (p) => p.partition },
      { name: "from", kind: "num", of: (p) => num(p.from) }, { name: "to", kind: "num", of: (p) => num(p.to) }]} />` });
  if (sure) await act(() => send("POST", path, { ...wanted, dryRun: false }), ours ? `${group.service} reads again.` : "Set.");
  again();
}
