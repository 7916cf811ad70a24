// Which link comes first, what the summary says of them all, and what counts as a change.
import { describe, expect, it } from 'vitest'
import { STATES, type Link, type LinkState } from './api'
import { changed, foremost, summary, worstFirst } from './links'

function link(log: string, state: LinkState, lag = 0, seconds: number | null = 0): Link {
  return {
    code: log, names: { zh: log, en: log }, log, state, heard_at: null,
    lag_events: lag, lag_seconds: seconds, verified_seq: 1, quarantine: 0,
  }
}
const logs = (links: Link[]) => links.map((one) => one.log)

describe('the worst first', () => {
  it('by state, then by lag, then by name', () => {
    const some = [link('f', 'ok'), link('e', 'lagging', 1), link('d', 'lagging', 7), link('a', 'silent'), link('c', 'fork'), link('b', 'ok')]
    expect(logs(worstFirst(some))).toEqual(['c', 'a', 'd', 'e', 'b', 'f'])
  })
  it('knows every state', () => {
    const all = STATES.map((state) => link(state, state))
    expect(logs(worstFirst([...all].reverse()))).toEqual([...STATES])
  })
})

describe('the summary', () => {
  it('counts those in step and takes the worst lag of any', () => {
    const some = [link('a', 'ok'), link('b', 'lagging', 120, 3), link('c', 'silent', 5, 75.5), link('d', 'ok', 0, null)]
    expect(summary(some)).toEqual({ all: 4, ok: 2, worst: 'silent', events: 120, seconds: 75.5 })
  })
  it('of none', () => expect(summary([])).toEqual({ all: 0, ok: 0, worst: 'ok', events: 0, seconds: 0 }))
})

it('a short list still shows every link out of step', () => {
  const some = worstFirst([...Array.from({ length: 5 }, (_, i) => link(`ok${i}`, 'ok')), link('x', 'silent'), link('y', 'fork'), link('z', 'lagging')])
  expect(logs(foremost(some, 2))).toEqual(['y', 'x', 'z'])
  expect(foremost(some, 4)).toHaveLength(4)
})

describe('a change', () => {
  it('is a known log in another state; a new log or the same state is none', () => {
    const before = [link('a', 'ok'), link('b', 'silent'), link('c', 'ok')]
    const after = [link('a', 'silent'), link('b', 'silent'), link('d', 'fork')]
    expect([...changed(new Map(), before, after, 9)]).toEqual([['a', { from: 'ok', to: 'silent', at: 9 }]])
  })
  it('stands until the next one of the same log', () => {
    const first = changed(new Map(), [link('a', 'ok')], [link('a', 'silent')], 1)
    const same = changed(first, [link('a', 'silent')], [link('a', 'silent')], 2)
    expect(same.get('a')).toEqual({ from: 'ok', to: 'silent', at: 1 })
    expect(changed(same, [link('a', 'silent')], [link('a', 'ok')], 3).get('a')).toEqual({ from: 'silent', to: 'ok', at: 3 })
  })
})
