// Places an order on the topic itself: `node producer.mjs ORDER_ID SKU=QTY ...`.
//
// The same order twice, under one id, is one order: inventory decides once and says the same again.
import { randomBytes } from 'node:crypto'
import { Kafka, Partitioners, logLevel } from 'kafkajs'

const [orderId, ...wanted] = process.argv.slice(2)
const items = wanted.map((text) => {
  const at = text.lastIndexOf('=')
  return { sku: text.slice(0, at), qty: Number(text.slice(at + 1)) }
})
if (!orderId || !items.length || items.some(({ sku, qty }) => !sku || !Number.isInteger(qty))) {
  console.error('usage: node producer.mjs ORDER_ID SKU=QTY [SKU=QTY ...]')
  process.exit(2)
}

const env = process.env
const topic = env.ORDERSTREAM_TOPIC_ORDER_CREATED ?? 'order.created'
const producer = new Kafka({
  clientId: 'kafkajs-example',
  brokers: (env.KAFKA_BOOTSTRAP_SERVERS ?? '127.0.0.1:9092').split(','),
  logLevel: logLevel.WARN,
}).producer({
  idempotent: true, // A repeated send is no second record; needs acks of all replicas.
  createPartitioner: Partitioners.DefaultPartitioner, // murmur2, as Java's clients and ours.
  allowAutoTopicCreation: false,
})

const createdAt = new Date().toISOString()
await producer.connect()
const [sent] = await producer.send({
  topic,
  acks: -1,
  messages: [
    {
      key: orderId, // One order, one partition: all that concerns it stays in sequence.
      value: JSON.stringify({ orderId, version: 1, items, createdAt }),
      headers: {
        ce_specversion: '1.0',
        ce_id: `${orderId}:order.created`,
        ce_type: 'order.created',
        ce_source: '/examples/kafkajs',
        ce_time: createdAt,
        'content-type': 'application/json',
        traceparent: env.TRACEPARENT ?? `00-${hex(16)}-${hex(8)}-01`,
      },
    },
  ],
})
await producer.disconnect()
console.log(`order ${orderId}  ${topic}[${sent.partition}]@${sent.baseOffset}`)

function hex(bytes) {
  return randomBytes(bytes).toString('hex')
}
