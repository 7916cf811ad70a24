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
  // The same decimals in every row, so that a column can be compared; all and nothing need none.
  const digits = share > 0 && share < 1 ? 1 : 0
  return new Intl.NumberFormat(LOCALE[lang], { style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: 1 }).format(held)
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

/** Seconds from an instant to `now` (milliseconds); never negative, since two clocks differ a little. Null for no instant. */
export function since(text: string | null | undefined, now: number): number | null {
  const at = text ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? null : Math.max(0, (now - at) / 1_000)
}

/** An instant in the reader's own time zone. */
export function instant(text: string | null | undefined, lang: Lang): string {
  const date = text ? new Date(text) : null
  if (!date || Number.isNaN(date.getTime())) return NONE
  // "03/04" is the third of April or the fourth of March, depending on where one reads English.
  const [locale, month] = lang === 'zh' ? (['zh-CN', '2-digit'] as const) : (['en-GB', 'short'] as const)
  return new Intl.DateTimeFormat(locale, {
    year: 'numeric', month, day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false,
  }).format(date)
}
