// Who did what in this console, and when.
import { Away, Badge, Card, html, Page, Table, Time, useLive } from "../lib/ui.js";
import { get } from "../lib/api.js";

export default function Audit() {
  const { data, error } = useLive((signal) => get("/console/audit", {}, signal), 5000);
  const kind = (r) => (r === "done" ? "good" : r === "asked" ? "calm" : r === "unknown" ? "bad" : "warn");
  return html`<${Page} title="Audit log" sub="written before something is done, and after; kept in a topic of its own"><${Away} error=${error} />
    <${Card}><${Table} label="audit log" rows=${data?.entries} keyOf=${(e) => e.offset} empty="Nothing was done yet." columns=${[
      { name: "at", kind: "tight", of: (e) => html`<${Time} at=${e.at} />` }, { name: "who", of: (e) => e.who }, { name: "what", of: (e) => e.action }, { name: "to", of: (e) => html`<span class="mono">${e.target}</span>` },
      { name: "result", kind: "tight", of: (e) => html`<${Badge} of=${e.result} kind=${kind(e.result)} />` }, { name: "detail", of: (e) => html`<span class="mono">${e.detail}</span>` }]} /><//><//>`;
}
