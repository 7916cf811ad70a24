// Keeps the page's figures in step with the node: reads, listens for changes, reads again.
import { onMounted, onUnmounted, ref, shallowRef } from 'vue'
import {
  LIVE, readLinks, readNode, readOutlines, readOverview, Unread,
  type Link, type NodeInfo, type Outlines, type Overview,
} from './api'

export type Connection = 'connecting' | 'open' | 'lost'

const AT_MOST_EVERY_MS = 1_000
/** A link falls silent by time passing alone, without an event; the same is tried when a reading failed. */
const LINKS_EVERY_MS = 3_000
/** So does a case become overdue. */
const FIGURES_EVERY_MS = 60_000
const REOPEN_MS = 5_000
/** A node that answers slowly is asked less often: it is left in peace this many times as long as its answer took. */
const PEACE = 3
const PEACE_AT_MOST_MS = 10_000

export function useNode() {
  const info = shallowRef<NodeInfo>()
  const outlines = shallowRef<Outlines>()
  const overview = shallowRef<Overview>()
  const links = shallowRef<Link[]>()
  const failure = shallowRef<Unread>()
  const connection = ref<Connection>('connecting')
  const reading = ref(false)
  /** Milliseconds by which the node's clock is ahead of the reader's. */
  const ahead = ref(0)

  let source: EventSource | undefined
  let next: ReturnType<typeof setTimeout> | undefined
  let reopening: ReturnType<typeof setTimeout> | undefined
  let stale = true
  let read = 0
  let pause = AT_MOST_EVERY_MS

  async function figures() {
    const found = await readOverview()
    overview.value = found
    ahead.value = Date.parse(found.as_of) - Date.now()
  }

  /** One reading of what is due; the next one is planned when it ended, so that two never overlap. */
  async function turn() {
    clearTimeout(next)
    if (reading.value || document.hidden) return
    reading.value = true
    const begun = Date.now()
    const parts: Promise<unknown>[] = [readLinks().then((found) => (links.value = found))]
    if (stale || begun - read > FIGURES_EVERY_MS) {
      stale = false
      read = begun
      parts.push(figures())
    }
    // These two change only when the node is set up anew.
    if (!info.value) parts.push(readNode().then((found) => (info.value = found)))
    if (!outlines.value) parts.push(readOutlines().then((found) => (outlines.value = found)))
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected')
    failure.value = failed && (failed.reason instanceof Unread ? failed.reason : new Unread(0, String(failed.reason)))
    pause = Math.min(Math.max(AT_MOST_EVERY_MS, PEACE * (Date.now() - begun)), PEACE_AT_MOST_MS)
    reading.value = false
    next = setTimeout(turn, stale && !failed ? pause : Math.max(pause, LINKS_EVERY_MS))
    stale ||= !!failed
  }

  function changed() {
    stale = true
    if (reading.value) return
    clearTimeout(next)
    next = setTimeout(turn, Math.max(0, read + pause - Date.now()))
  }

  function listen() {
    source?.close()
    clearTimeout(reopening)
    source = new EventSource(LIVE)
    source.onopen = () => {
      connection.value = 'open'
      changed()
    }
    source.onerror = () => {
      connection.value = 'lost'
      // The browser reconnects by itself unless the answer was no event stream at all.
      if (source?.readyState === EventSource.CLOSED) reopening = setTimeout(listen, REOPEN_MS)
    }
    source.addEventListener('changed', changed)
  }

  /** A page that nobody sees asks for nothing and gives its connection back: browsers allow six to one address. */
  function seen() {
    if (document.hidden) {
      leave()
      connection.value = 'connecting'
      return
    }
    stale = true
    void turn()
    listen()
  }

  function leave() {
    source?.close()
    clearTimeout(next)
    clearTimeout(reopening)
  }

  onMounted(() => {
    document.addEventListener('visibilitychange', seen)
    seen()
  })
  onUnmounted(() => {
    document.removeEventListener('visibilitychange', seen)
    leave()
  })
  return { info, outlines, overview, links, failure, connection, reading, ahead, turn }
}
