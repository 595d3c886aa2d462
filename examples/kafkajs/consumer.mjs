// Reads what became of orders: `node consumer.mjs`. Ctrl-C or SIGTERM ends it.
//
// What was printed is committed afterwards. After a crash in between it comes once more, under the
// same ce_id: who does more than print remembers that beside what it does, in one transaction.
import { Kafka, logLevel } from 'kafkajs'

const env = process.env
const kafka = new Kafka({
  clientId: 'kafkajs-example',
  brokers: (env.KAFKA_BOOTSTRAP_SERVERS ?? '127.0.0.1:9092').split(','),
  logLevel: logLevel.WARN,
})
const consumer = kafka.consumer({
  groupId: env.KAFKA_GROUP_ID ?? 'kafkajs-example',
  readUncommitted: false, // Results are written in transactions.
})
const topics = [
  env.ORDERSTREAM_TOPIC_INVENTORY_RESERVED ?? 'inventory.reserved',
  env.ORDERSTREAM_TOPIC_INVENTORY_REJECTED ?? 'inventory.rejected',
]

/** Return a CloudEvent in Kafka's binary mode: attributes from the headers, data from the value. */
function cloudEvent({ headers, value }) {
  const text = Object.entries(headers ?? {}).map(([name, of]) => [name, [of].flat().at(-1)?.toString()])
  const found = Object.fromEntries(text)
  for (const name of ['ce_id', 'ce_type', 'ce_source', 'ce_specversion']) {
    if (!found[name]) throw new Error(`no ${name}`)
  }
  if (found.ce_specversion !== '1.0') throw new Error(`CloudEvents ${found.ce_specversion}`)
  return {
    id: found.ce_id,
    type: found.ce_type,
    source: found.ce_source,
    traceparent: found.traceparent,
    data: JSON.parse(value),
  }
}

/** Say what an event means. Fields that we do not know are none of our business. */
function told({ id, type, traceparent, data }) {
  const items = data.items.map(({ sku, qty }) => `${qty} x ${sku}`).join(', ')
  const why = type === 'inventory.rejected' ? ` (${data.reason}: ${data.short.join(', ')})` : ''
  return `${type}  order ${data.orderId}  ${items}${why}  ${id}  ${traceparent ?? '-'}`
}

async function end() {
  await consumer.disconnect() // Ends what is being handled first.
  process.exit(0)
}
process.once('SIGINT', end)
process.once('SIGTERM', end)

await consumer.connect()
await consumer.subscribe({ topics, fromBeginning: true })
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    try {
      console.log(told(cloudEvent(message)))
    } catch (error) {
      // It would fail each time: say so and go on, or nothing behind it is ever read.
      console.error(`passed over ${topic}[${partition}]@${message.offset}: ${error.message}`)
    }
    const offset = (BigInt(message.offset) + 1n).toString()
    await consumer.commitOffsets([{ topic, partition, offset }])
  },
})
