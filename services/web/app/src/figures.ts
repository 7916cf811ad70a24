// The indicators: their order, how each is written, and which way is better.
import type { Lang, Totals } from './api'
import { count, duration, percent } from './format'

export type Figure = keyof Totals

export const TABLE: Figure[] = ['reported', 'filed', 'closed', 'open', 'overdue_open', 'reworked', 'on_time_rate', 'median_seconds']
export const MAP: Figure[] = ['on_time_rate', 'overdue_open', 'reported', 'closed', 'reworked', 'median_seconds']

/** Of these a high value is bad news, so the map shows them in warm colours. */
export const WARM: ReadonlySet<Figure> = new Set<Figure>(['overdue_open', 'reworked', 'median_seconds'])

export function write(figure: Figure, value: number | null, lang: Lang): string {
  if (figure === 'on_time_rate') return percent(value, lang)
  if (figure === 'median_seconds') return duration(value, lang)
  return count(value, lang)
}
