// The days of the trend: a stretch without holes where it is short, the days with cases alone where it is long.
import type { Day } from './api'

const DAY_MS = 86_400_000
/** A record may hold thirty days spread over years; nobody could read the zeros between them. */
const LONGEST = 92

export interface Stretch {
  days: Day[]
  first: string
  last: string
  /** Whether days without cases were left out. */
  gaps: boolean
}

/** `known` in order of day; days between them that are not in it had no case. Null where there is none at all. */
export function stretch(known: Day[]): Stretch | null {
  const sorted = [...known].sort((a, b) => a.day.localeCompare(b.day))
  const [first, last] = [sorted[0]?.day, sorted.at(-1)?.day]
  if (!first || !last) return null
  const length = (Date.parse(last) - Date.parse(first)) / DAY_MS + 1
  if (length > LONGEST) return { days: sorted, first, last, gaps: length > sorted.length }
  const byDay = new Map(sorted.map((day) => [day.day, day]))
  const days = Array.from({ length }, (_, i) => {
    const day = new Date(Date.parse(first) + i * DAY_MS).toISOString().slice(0, 10)
    return byDay.get(day) ?? { day, reported: 0, filed: 0, closed: 0, closed_on_time: 0 }
  })
  return { days, first, last, gaps: false }
}
