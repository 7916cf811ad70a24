// Sorts the areas of a map into classes of about equal size, each named by the lowest and highest value really in it.

export interface Class {
  low: number
  high: number
}

/** At most `most` classes over `values`; equal values are never parted. */
export function classes(values: number[], most: number): Class[] {
  const sorted = [...values].sort((a, b) => a - b)
  const distinct = [...new Set(sorted)]
  if (distinct.length <= most) return distinct.map((value) => ({ low: value, high: value }))
  const found: Class[] = []
  let begun = 0
  for (let i = 1; i <= most; i++) {
    let end = Math.round((i * sorted.length) / most)
    if (end <= begun) continue
    while (end < sorted.length && sorted[end] === sorted[end - 1]) end++
    found.push({ low: sorted[begun]!, high: sorted[end - 1]! })
    begun = end
  }
  return found
}

/** The place of `value` among `found`, or -1. */
export function place(value: number | null, found: Class[]): number {
  return value === null ? -1 : found.findIndex((one) => value >= one.low && value <= one.high)
}

const SHADES = 5

/** The shades of a colour for `n` classes from low to high, named as in the style sheet. */
export function shades(colour: 'cool' | 'warm', n: number): string[] {
  // Few classes keep away from the ends, so that a small difference does not look like the largest.
  const first = n < 4 ? 2 : 1
  if (n <= 1) return [`${colour}-3`]
  return Array.from({ length: n }, (_, i) => `${colour}-${first + Math.round((i * (SHADES + 1 - 2 * first)) / (n - 1))}`)
}
