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
