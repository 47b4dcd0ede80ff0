// A node in Node.js: SLOTS jobs at once, each given to `handle`.
//
//   node node.js ID "CAPABILITY ..." SLOTS
//
// REDIS_URL and FLEET_NAMESPACE say where the fleet is.
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from 'redis'

// Your work: takes the payload, answers the result as text; throwing is a failure. `signal` is aborted by a cancel.
async function handle(payload, signal) {
  const asked = payload ? JSON.parse(payload) : {}
  await sleep(asked.sleep_ms ?? 50, undefined, { signal })
  if (asked.fail) throw new Error(asked.fail)
  return JSON.stringify({ echo: asked })
}

const [id, capabilities, slots] = process.argv.slice(2)
if (!slots) {
  console.error('usage: node node.js ID "CAPABILITY ..." SLOTS')
  process.exit(2)
}
// commands fail while the server is away, and are repeated here: an old heartbeat that waited would be of no use
const redis = createClient({
  url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
  disableOfflineQueue: true,
  socket: { connectTimeout: 2000, reconnectStrategy: 500 },
})
// reads that wait need a connection of their own
const reader = redis.duplicate()
for (const client of [redis, reader]) client.on('error', () => {})
await Promise.all([redis.connect(), reader.connect()])

const first = `${process.env.FLEET_NAMESPACE ?? 'fleet'}:{0}`
const [, shard] = await redis.sendCommand(['FCALL', 'fleet1_shard_find', '1', first, id])
const call = (name, ...args) => redis.sendCommand(['FCALL', `fleet1_${name}`, '1', shard, id, ...args.map(String)])
const jobCall = (name, ...args) => redis.sendCommand(['FCALL', `fleet1_job_${name}`, '1', shard, ...args.map(String)])

// Repeat a call that is safe to repeat for as long as the server is away.
async function insist(attempt) {
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (/BADARG/.test(error.message)) throw error
      await sleep(500)
    }
  }
}

let incarnation, position, leaving = false
const hand = new Map() // "<job> <fence>" → AbortController

async function register() {
  for (const stop of hand.values()) stop.abort()
  ;[, incarnation] = await call('node_register', 'endpoint', `inbox://${id}`, 'slots', slots, 'capabilities', capabilities)
  position = '0' // a new incarnation has a new inbox
  console.log(`${id}: registered in ${shard}`)
}

async function beat() {
  const running = hand.size ? ['running', [...hand.keys()].join(' ')] : []
  const [word, , ...told] = await call('node_heartbeat', incarnation, ...running)
  if (word === 'unknown' && !leaving) await register()
  if (word === 'fenced') {
    console.error(`${id}: another process has this id`)
    process.exit(3)
  }
  // pairs: cancel "<job> <fence>", drain <ms>
  for (let i = 0; i < told.length; i += 2) if (told[i] === 'cancel') cancel(...told[i + 1].split(' '))
}

function cancel(job, fence) {
  const stop = hand.get(`${job} ${fence}`)
  if (stop) stop.abort()
  // one that is not known here is confirmed, too: that frees its slot
  else insist(() => jobCall('finish', job, fence, 'failed'))
}

async function work(job, fence) {
  const key = `${job} ${fence}`
  if (hand.has(key)) return
  const stop = new AbortController()
  hand.set(key, stop)
  try {
    const [word, , payload] = await insist(() => jobCall('start', job, fence))
    if (word !== 'running') return // cancelled, or another node's by now
    let outcome = 'succeeded', result
    try {
      result = await handle(payload, stop.signal)
    } catch (error) {
      ;[outcome, result] = ['failed', String(error)]
    }
    await insist(() => jobCall('finish', job, fence, outcome, result))
    console.log(`${id}: ${job} ${outcome}`)
  } finally {
    hand.delete(key)
  }
}

async function take(wait) {
  const held = incarnation
  const inbox = `${shard}:node:${id}:inbox`
  const answer = await reader.sendCommand(['XREAD', 'COUNT', '100', 'BLOCK', String(wait), 'STREAMS', inbox, position])
  if (!answer || held !== incarnation) return false
  // an array of pairs, or in the newer protocol a map from the stream to its entries
  const entries = Array.isArray(answer) ? answer[0][1] : Object.values(answer)[0]
  for (const [at, fields] of entries) {
    position = at
    const { kind, job, fence } = Object.fromEntries(fields.flatMap((name, i) => (i % 2 ? [] : [[name, fields[i + 1]]])))
    if (kind === 'cancel') cancel(job, fence)
    else if (kind === 'job' && !leaving) work(job, fence)
    else if (kind === 'job') await insist(() => jobCall('finish', job, fence, 'released'))
  }
  return true
}

// before it registers: from then on it must not go without a word
for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => { leaving = true })
await insist(register)
const beating = setInterval(() => beat().catch(() => {}), 1000)

while (!leaving) await take(500).catch(() => sleep(500))

await insist(() => call('node_mark', 'drain'))
while (await insist(() => take(1)));
while (hand.size) await sleep(20)
clearInterval(beating)
await call('node_remove', incarnation)
console.log(`${id}: left`)
redis.destroy()
reader.destroy()
