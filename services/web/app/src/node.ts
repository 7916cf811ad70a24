// Keeps the page's figures in step with the node: reads, listens for changes, reads again.
import { onMounted, onUnmounted, ref, shallowRef } from 'vue'
import {
  LIVE, readLinks, readNode, readOutlines, readOverview, Unread,
  type Link, type NodeInfo, type Outlines, type Overview,
} from './api'

export type Connection = 'connecting' | 'open' | 'lost'

const AT_MOST_EVERY_MS = 1_000
/** Overdue cases grow by time passing alone, without an event. */
const AT_LEAST_EVERY_MS = 60_000
const REOPEN_MS = 5_000

export function useNode() {
  const info = shallowRef<NodeInfo>()
  const outlines = shallowRef<Outlines>()
  const overview = shallowRef<Overview>()
  const links = shallowRef<Link[]>()
  const failure = shallowRef<Unread>()
  const connection = ref<Connection>('connecting')
  const reading = ref(false)

  let source: EventSource | undefined
  let next: ReturnType<typeof setTimeout> | undefined
  let reopening: ReturnType<typeof setTimeout> | undefined
  let last = 0
  let again = false

  async function read() {
    if (reading.value) {
      again = true
      return
    }
    reading.value = true
    last = Date.now()
    clearTimeout(next)
    next = undefined
    const parts = [
      readOverview().then((found) => (overview.value = found)),
      readLinks().then((found) => (links.value = found)),
    ] as Promise<unknown>[]
    // These two change only when the node is set up anew.
    if (!info.value) parts.push(readNode().then((found) => (info.value = found)))
    if (!outlines.value) parts.push(readOutlines().then((found) => (outlines.value = found)))
    const results = await Promise.allSettled(parts)
    const refused = results.find((result) => result.status === 'rejected')
    failure.value = refused ? (refused.reason instanceof Unread ? refused.reason : new Unread(0, String(refused.reason))) : undefined
    reading.value = false
    plan(again ? AT_MOST_EVERY_MS : AT_LEAST_EVERY_MS)
    again = false
  }

  function plan(after: number) {
    clearTimeout(next)
    next = setTimeout(read, after)
  }

  function changed() {
    if (reading.value) again = true
    else plan(Math.max(0, last + AT_MOST_EVERY_MS - Date.now()))
  }

  function listen() {
    source?.close()
    source = new EventSource(LIVE)
    source.onopen = () => {
      connection.value = 'open'
      changed()
    }
    source.onerror = () => {
      connection.value = 'lost'
      // The browser reconnects by itself unless the answer was no event stream at all.
      if (source?.readyState === EventSource.CLOSED) {
        clearTimeout(reopening)
        reopening = setTimeout(listen, REOPEN_MS)
      }
    }
    source.addEventListener('changed', changed)
  }

  onMounted(() => {
    void read()
    listen()
  })
  onUnmounted(() => {
    source?.close()
    clearTimeout(next)
    clearTimeout(reopening)
  })
  return { info, outlines, overview, links, failure, connection, reading, read }
}
