// Numbers, shares, spans of time and instants in words; what is not known shows as a dash.
import type { Lang } from './api'

export const NONE = '–'
const LOCALE: Record<Lang, string> = { zh: 'zh-CN', en: 'en' }
const UNITS = [
  { seconds: 86_400, zh: '天', en: 'd' },
  { seconds: 3_600, zh: '小时', en: 'h' },
  { seconds: 60, zh: '分', en: 'min' },
  { seconds: 1, zh: '秒', en: 's' },
] as const

export function count(value: number | null | undefined, lang: Lang): string {
  return value == null || Number.isNaN(value) ? NONE : new Intl.NumberFormat(LOCALE[lang]).format(value)
}

/** A share from 0 to 1 with one decimal; never rounds up to 100 % nor down to 0 % what is not. */
export function percent(share: number | null | undefined, lang: Lang): string {
  if (share == null || Number.isNaN(share)) return NONE
  const held = share > 0 && share < 1 ? Math.min(Math.max(share, 0.001), 0.999) : share
  return new Intl.NumberFormat(LOCALE[lang], { style: 'percent', maximumFractionDigits: 1 }).format(held)
}

/** The two largest units of a span: 93 784 s is "1 d 2 h". */
export function duration(seconds: number | null | undefined, lang: Lang): string {
  if (seconds == null || Number.isNaN(seconds) || seconds < 0) return NONE
  const first = UNITS.findIndex((unit) => seconds >= unit.seconds)
  const at = first < 0 ? UNITS.length - 1 : first
  const large = UNITS[at]!
  const small = UNITS[at + 1]
  const whole = Math.floor(seconds / large.seconds)
  const rest = small ? Math.floor((seconds % large.seconds) / small.seconds) : 0
  const parts = [`${whole} ${large[lang]}`]
  if (small && rest > 0) parts.push(`${rest} ${small[lang]}`)
  return parts.join(' ')
}

/** An instant in the reader's own time zone. */
export function instant(text: string | null | undefined, lang: Lang): string {
  const date = text ? new Date(text) : null
  if (!date || Number.isNaN(date.getTime())) return NONE
  return new Intl.DateTimeFormat(LOCALE[lang], {
    year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false,
  }).format(date)
}
