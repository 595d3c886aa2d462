// What customers were told.
import { Away, Badge, Card, Field, html, Page, Table, Time, useFilter, useLive } from "../lib/ui.js";
import { enc, get } from "../lib/api.js";

export default function Notifications({ place }) {
  const [filter, apply] = useFilter(place);
  const { data, error } = useLive((signal) => get("/services/notification/api/notifications", { orderId: filter.orderId, status: filter.status, limit: 100 }, signal), 3000, [JSON.stringify(filter)]);
  return html`<${Page} title="Notifications" sub="newest first, live">
    <form class="filters" onSubmit=${apply} role="search"><${Field} label="order"><input name="orderId" data-search placeholder="/" defaultValue=${filter.orderId} /><//>
      <${Field} label="status"><select name="status"><option value="">any</option><option selected=${filter.status === "SENT"}>SENT</option><option selected=${filter.status === "FAILED"}>FAILED</option></select><//><button class="main">Search</button></form>
    <${Away} error=${error} />
    <${Card}><${Table} label="notifications" rows=${data?.notifications} keyOf=${(n) => n.id} empty="Nobody was told anything yet." columns=${[
      { name: "at", kind: "tight", of: (n) => html`<${Time} at=${n.createdAt} />` }, { name: "order", of: (n) => html`<a href="#/orders/${enc(n.orderId)}">${n.orderId}</a>` },
      { name: "user", of: (n) => (n.userId === null ? "–" : String(n.userId)) }, { name: "by", of: (n) => n.channel }, { name: "status", kind: "tight", of: (n) => html`<${Badge} of=${n.status} />` }, { name: "text", of: (n) => n.text }]} /><//><//>`;
}
