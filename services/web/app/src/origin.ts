// How many cases came from where, in words; said only where not all of them were taken in live.
import type { Provenance, Share } from './api'

/** What a reader must know first comes first. */
const ORDER: Provenance[] = ['generated', 'replayed', 'imported', 'live']

/** The kinds that there are, in order; empty when every case was taken in live. */
export function told(shares: Share[]): Share[] {
  const there = shares.filter((share) => share.reported > 0)
  if (there.every((share) => share.provenance === 'live')) return []
  return there.sort((a, b) => ORDER.indexOf(a.provenance) - ORDER.indexOf(b.provenance))
}
