// What to make of the links below: which need a hand first, how many are in step, and which just changed.
import { shallowRef, watch } from 'vue'
import { STATES, type Link, type LinkState } from './api'

export const MARK: Record<LinkState, string> = { ok: '✓', lagging: '…', silent: '○', quarantine: '!', behind: '↩', fork: '⑂' }
/** These do not pass by themselves: somebody has to look. */
export const ALARMS: ReadonlySet<LinkState> = new Set<LinkState>(['fork', 'behind', 'quarantine'])
/** For so long a change of state is pointed at. */
export const NEWS_MS = 60_000

/** The worst first; among equals the one that lags most. */
export function worstFirst(links: Link[]): Link[] {
  const rank = (link: Link) => STATES.indexOf(link.state)
  return [...links].sort((a, b) => rank(a) - rank(b) || b.lag_events - a.lag_events || a.log.localeCompare(b.log))
}

export interface Summary {
  all: number
  ok: number
  /** The state of the worst link. */
  worst: LinkState
  events: number
  seconds: number
}

export function summary(links: Link[]): Summary {
  return {
    all: links.length,
    ok: links.filter((link) => link.state === 'ok').length,
    worst: worstFirst(links)[0]?.state ?? 'ok',
    events: Math.max(0, ...links.map((link) => link.lag_events)),
    seconds: Math.max(0, ...links.map((link) => link.lag_seconds ?? 0)),
  }
}

/** All that are not in step, and of those that are as many as make `least` rows in all. */
export function foremost(sorted: Link[], least: number): Link[] {
  return sorted.slice(0, Math.max(least, sorted.filter((link) => link.state !== 'ok').length))
}

/** From which state to which a log went, and when that was seen here. */
export interface Change {
  from: LinkState
  to: LinkState
  at: number
}

/** The changes known before, and those between two readings. */
export function changed(known: ReadonlyMap<string, Change>, before: Link[], after: Link[], at: number): Map<string, Change> {
  const states = new Map(before.map((link) => [link.log, link.state]))
  const found = new Map(known)
  for (const { log, state } of after) {
    const from = states.get(log)
    if (from && from !== state) found.set(log, { from, to: state, at })
  }
  return found
}

/** The last change of each log since the page was opened. */
export function useChanges(links: () => Link[]) {
  const changes = shallowRef<ReadonlyMap<string, Change>>(new Map())
  watch(links, (after, before) => (changes.value = changed(changes.value, before, after, Date.now())))
  return changes
}
