// What customers were told and were not, the channels, and the words.
import { act, ask, Away, Badge, Card, Field, html, num, Page, Table, Time, useFilter, useLive, useState } from "../lib/ui.js";
import { enc, get, query, send } from "../lib/api.js";

const API = "/services/notification/api/notifications";
const STATES = ["PENDING", "SENDING", "SENT", "FAILED", "SKIPPED"];
const EVENTS = ["confirmed", "rejected", "cancelled", "expired", "fulfilled", "failed"];

export default function Notifications({ place, may }) {
  const [filter, apply] = useFilter(place);
  const list = useLive((signal) => get(API, { ...filter, limit: 100 }, signal), 3000, [JSON.stringify(filter)]);
  const channels = useLive((signal) => get(`${API}/channels`, {}, signal), 3000);
  const again = () => (list.again(), channels.again());
  return html`<${Page} title="Notifications" sub="newest first, live" actions=${may && html`
      <button onClick=${optOut}>Opt a customer out or in</button>
      <button class="main" onClick=${() => retryAll(filter.channel, again)}>Send failed ones again</button>`}>
    <form class="filters" onSubmit=${apply} role="search"><${Field} label="order"><input name="orderId" data-search placeholder="/" defaultValue=${filter.orderId} /><//>
      <${Field} label="channel"><select name="channel"><option value="">any</option>${channels.data?.channels.map((c) => html`<option selected=${filter.channel === c.name}>${c.name}</option>`)}</select><//>
      <${Field} label="status"><select name="status"><option value="">any</option>${STATES.map((s) => html`<option selected=${filter.status === s}>${s}</option>`)}</select><//>
      <button class="main">Search</button></form>
    <${Away} error=${list.error} />
    <${Card}><${Table} label="notifications" rows=${list.data?.notifications} keyOf=${(n) => n.id} empty="Nobody was told anything yet." columns=${[
      { name: "at", kind: "tight", of: (n) => html`<${Time} at=${n.createdAt} />` }, { name: "order", of: (n) => html`<a href="#/orders/${enc(n.orderId)}">${n.orderId}</a>` },
      { name: "user", of: (n) => (n.userId === null ? "–" : String(n.userId)) }, { name: "by", of: (n) => n.channel },
      { name: "status", kind: "tight", of: (n) => html`<${Badge} of=${n.status} /> <${Tries} of=${n} />` },
      { name: "text", of: (n) => html`${n.text}${n.why && html`<br /><span class="soft">${n.why}</span>`}` },
      ...(may ? [{ name: "actions", quiet: true, kind: "tight right", of: (n) => ["FAILED", "SKIPPED"].includes(n.status)
        && html`<button class="plain" aria-label="Send ${n.id} again" onClick=${() => retry(n, again)}>Again</button>` }] : [])]} /><//>
    <${Channels} of=${channels} may=${may} again=${again} />
    <${Words} /><//>`;
}

const Tries = ({ of }) => html`<span class="soft">${of.tries > 1 && `${of.tries} tries`}${of.doubtful ? `, ${of.doubtful} in doubt` : ""}${
  of.status === "PENDING" && of.dueAt && html`<br />next <${Time} at=${of.dueAt} />`}</span>`;

function Channels({ of, may, again }) {
  const waits = (state) => ({ name: state.toLowerCase(), kind: "num", of: (c) => html`<a href="#/notifications${query({ channel: c.name, status: state })}">${num(c.unsent[state] ?? 0)}</a>` });
  return html`<${Card} title="Channels"><${Away} error=${of.error} />
    <${Table} label="channels" rows=${of.data?.channels} keyOf=${(c) => c.name} empty="There is only the log: set ORDERSTREAM_NOTIFY." columns=${[
      { name: "channel", of: (c) => c.name },
      { name: "state", of: (c) => html`<${Badge} of=${c.silenced ? "silenced" : c.inUse ? "in use" : "not in the settings"} kind=${c.silenced ? "bad" : c.inUse ? "good" : "calm"} /> ${c.silenced && html`<span class="soft">${c.silenced}</span>`}` },
      ...["PENDING", "FAILED"].map(waits),
      ...(may ? [{ name: "actions", quiet: true, kind: "tight right", of: (c) => html`
        ${c.silenced && html`<button class="plain" aria-label="Use ${c.name} again" onClick=${() => enable(c, again)}>Use again</button>`}
        ${c.inUse && html`<button class="plain" aria-label="Test ${c.name}" onClick=${() => test(c)}>Test</button>`}` }] : [])]} /><//>`;
}

function Words() {
  const [chosen, setChosen] = useState({ event: "confirmed", locale: "en" });
  const { data, error } = useLive((signal) => get(`${API}/preview`, chosen, signal), 0, [JSON.stringify(chosen)]);
  const choose = (name) => (event) => setChosen({ ...chosen, [name]: event.target.value });
  return html`<${Card} title="What a customer reads"><div class="filters">
      <${Field} label="event"><select onChange=${choose("event")}>${EVENTS.map((e) => html`<option selected=${e === chosen.event}>${e}</option>`)}</select><//>
      <${Field} label="language"><input defaultValue=${chosen.locale} onChange=${choose("locale")} size="8" /><//></div>
    <${Away} error=${error} />
    ${data && html`<dl class="facts"><dt>subject</dt><dd>${data.subject}</dd><dt>language</dt><dd>${data.locale}</dd></dl><pre>${data.text}</pre>
      <details><summary>HTML</summary><pre>${data.html}</pre></details>`}<//>`;
}

async function retry(notice, again) {
  const said = await ask({ title: `Send it again by ${notice.channel}?`, yes: "Send it", text: notice.text });
  if (said) await act(() => send("POST", `${API}/${enc(notice.id)}/retry`), "It will be sent.");
  again();
}

async function retryAll(channel, again) {
  const said = await ask({ title: "Send failed ones again?", yes: "Send them", text: channel ? `Those that were given up by ${channel}, the oldest 10,000 first.` : "Those that were given up, by every channel, the oldest 10,000 first." });
  if (said) await act(() => send("POST", `${API}:retry${query({ channel })}`), (r) => `${num(r.retried)} will be sent.`);
  again();
}

async function enable(channel, again) {
  const said = await ask({ title: `Use ${channel.name} again?`, yes: "Use it", text: "What failed meanwhile is sent when you say so." });
  if (said) await act(() => send("POST", `${API}/channels/${enc(channel.name)}/enable`), `${channel.name} is used again.`);
  again();
}

async function test(channel) {
  const said = await ask({ title: `Test ${channel.name}`, yes: "Send a test", text: "A message about an order that is nobody's is sent now.",
    body: html`<${Field} label="e-mail"><input name="email" type="email" /><//><${Field} label="phone"><input name="phone" placeholder="+4915112345678" /><//><${Field} label="language"><input name="locale" size="8" /><//>` });
  if (!said) return;
  const to = Object.fromEntries(Object.entries(said).filter(([, v]) => v));
  await act(() => send("POST", `${API}/channels/${enc(channel.name)}/test`, to), (r) => (r.result === "SENT" ? `${channel.name} took it.` : `${r.result}: ${r.why}`));
}

async function optOut() {
  const said = await ask({ title: "Opt a customer out or in", yes: "Do it", text: "Who opted out gets nothing by channels that go to customers, from the next message on.",
    body: html`<${Field} label="user"><input name="user" required maxlength="128" /><//><${Field} label="is told"><select name="told"><option value="">no more</option><option value="yes">again</option></select><//>` });
  if (said) await act(() => send(said.told ? "DELETE" : "PUT", `${API}/opt-outs/${enc(said.user)}`), (r) => `${r.userId} ${r.optedOut ? "is told no more" : "is told again"}.`);
}
