// What the page reads from its own node: the shapes of the answers, and the reading itself.

export type Lang = 'zh' | 'en'
export type Names = Record<Lang, string>

/** A node as a page leads to it; without `url` there is nothing to lead to. */
export interface Unit {
  code: string
  names: Names
  url: string | null
}

export interface NodeInfo {
  code: string
  names: Names
  /** From the root to this node, itself included. */
  path: Unit[]
  children: Unit[]
  demo: boolean
}

export interface Totals {
  reported: number
  refused: number
  filed: number
  closed: number
  closed_on_time: number
  reworked: number
  exempted: number
  open: number
  overdue_open: number
  median_seconds: number | null
  on_time_rate: number | null
}

export interface Day {
  day: string
  reported: number
  filed: number
  closed: number
  closed_on_time: number
}

/** One row of what lies right below: a child node, or a division where there are no child nodes. */
export interface Area {
  code: string
  names: Names
  totals: Totals
}

export type Provenance = 'live' | 'imported' | 'replayed' | 'generated'

export interface Share {
  provenance: Provenance
  reported: number
}

export interface Overview {
  as_of: string
  totals: Totals
  children: Area[]
  trend: Day[]
  provenance: Share[]
  on_time_formula: Names
}

/** From the worst to the best. */
export const STATES = ['fork', 'behind', 'quarantine', 'silent', 'lagging', 'ok'] as const
export type LinkState = (typeof STATES)[number]

export interface Link {
  code: string
  names: Names
  log: string
  state: LinkState
  heard_at: string | null
  lag_events: number
  lag_seconds: number | null
  verified_seq: number
  quarantine: number
}

export interface Outline {
  type: 'Feature'
  properties: {
    code: string
    name_zh: string | null
    name_en: string | null
    kind: 'node' | 'division'
    node: boolean
    /** Made from cells or points, because no boundary file knows the unit. */
    approximate: boolean
  }
  geometry: { type: string; coordinates: unknown }
}

export interface Outlines {
  type: 'FeatureCollection'
  features: Outline[]
  unlocated: string[]
  note: Names
  source: Names | null
  sources: string[]
}

/** The number of days with data that the trend covers. */
export const DAYS = 30
export const LIVE = '/api/evaluation/v1/live'

/** A reading that failed: the status the node answered with (0: no answer) and what it said. */
export class Unread extends Error {
  constructor(
    readonly status: number,
    readonly detail: string,
  ) {
    super(detail)
  }
}

async function read<T>(path: string): Promise<T> {
  let answer: Response
  try {
    answer = await fetch(path, { headers: { Accept: 'application/json' }, signal: AbortSignal.timeout(20_000) })
  } catch (error) {
    throw new Unread(0, error instanceof Error ? error.message : String(error))
  }
  if (answer.ok) {
    try {
      return (await answer.json()) as T
    } catch {
      throw new Unread(answer.status, path)
    }
  }
  // Problem documents (RFC 9457) carry a sentence; a proxy's own error page does not.
  const problem = (await answer.json().catch(() => null)) as { detail?: unknown } | null
  throw new Unread(answer.status, typeof problem?.detail === 'string' ? problem.detail : answer.statusText)
}

export const readNode = () => read<NodeInfo>('/api/web/v1/node')
export const readOutlines = () => read<Outlines>('/api/grid/v1/outlines')
export const readOverview = () => read<Overview>(`/api/evaluation/v1/overview?last_days=${DAYS}`)
export const readLinks = () => read<{ links: Link[] }>('/api/evaluation/v1/links').then((answer) => answer.links)
