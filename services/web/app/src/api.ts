// What the page reads from its own node: the shapes of the answers, and the reading itself.

export type Lang = 'zh' | 'en'
export type Names = Record<Lang, string>

export interface NodeInfo {
  code: string
  names: Names
  path: { code: string }[]
  children: { code: string; names: Names; url: string | null }[]
  demo: boolean
  note: Names | null
  source: string | null
}

export interface Totals {
  reported: number
  refused: number
  filed: number
  closed: number
  closed_on_time: number
  reworked: number
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

export type Provenance = 'live' | 'imported' | 'replayed' | 'generated'

export interface Overview {
  as_of: string
  totals: Totals
  children: { code: string; names: Names; totals: Totals }[]
  trend: Day[]
  provenance: { provenance: Provenance; reported: number }[]
  on_time_formula: Names
}

export type LinkState = 'ok' | 'lagging' | 'silent' | 'quarantine'

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

export interface Outlines {
  type: 'FeatureCollection'
  features: {
    type: 'Feature'
    properties: { code: string; name_zh: string; name_en: string }
    geometry: { type: string; coordinates: unknown }
  }[]
}

/** The number of days the figures cover. */
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
