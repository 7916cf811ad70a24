// What the map and the line on the data's origin say, and that both languages have the same gaps to fill.
import { describe, expect, it } from 'vitest'
import type { Area, Outline, Outlines, Totals } from './api'
import { areas } from './areas'
import { told } from './origin'
import { messages } from './words'

const TOTALS: Totals = {
  reported: 0, refused: 0, filed: 0, closed: 0, closed_on_time: 0, reworked: 0, exempted: 0, open: 0, overdue_open: 0,
  median_seconds: null, on_time_rate: null,
}

function outline(code: string, node: boolean, name: string | null = code): Outline {
  return {
    type: 'Feature', geometry: { type: 'Polygon', coordinates: [] },
    properties: { code, name_zh: name, name_en: name, kind: node ? 'node' : 'division', node, approximate: !node },
  }
}
const map = (...features: Outline[]): Outlines => ({
  type: 'FeatureCollection', features, unlocated: [], note: { zh: '', en: '' }, source: null, sources: [],
})
const row = (code: string, totals: Partial<Totals> = {}): Area => ({ code, names: { zh: `区${code}`, en: `Area ${code}` }, totals: { ...TOTALS, ...totals } })

describe('an area of the map', () => {
  it('has a figure, has none yet, or takes no part', () => {
    const found = areas(map(outline('1', true), outline('2', true), outline('3', false)), [row('1', { on_time_rate: 0.5 }), row('2')], true, 'on_time_rate', 'en')
    expect(found.map((one) => [one.code, one.value, one.ground])).toEqual([['1', 0.5, 'figure'], ['2', null, 'blank'], ['3', null, 'outside']])
  })
  it('of a node without nodes below every division takes part', () => {
    const found = areas(map(outline('1', false), outline('2', false)), [row('1', { reported: 3 })], false, 'reported', 'zh')
    expect(found.map((one) => one.ground)).toEqual(['figure', 'blank'])
  })
  it('without a name takes that of its row, else its code', () => {
    const found = areas(map(outline('1', false, null), outline('2', false, null)), [row('1')], false, 'reported', 'en')
    expect(found.map((one) => one.name)).toEqual(['Area 1', '2'])
  })
})

describe('where cases come from', () => {
  it('is not worth a word when all were taken in live', () => {
    expect(told([{ provenance: 'live', reported: 4 }, { provenance: 'generated', reported: 0 }])).toEqual([])
  })
  it('names every kind of a mixture, what never happened first', () => {
    const shares = [{ provenance: 'live', reported: 1 }, { provenance: 'replayed', reported: 2 }, { provenance: 'imported', reported: 3 }, { provenance: 'generated', reported: 4 }] as const
    expect(told([...shares]).map((share) => share.provenance)).toEqual(['generated', 'replayed', 'imported', 'live'])
  })
})

it('both languages fill the same gaps', () => {
  const gaps = (words: object): unknown =>
    Object.fromEntries(Object.entries(words).map(([key, word]) => [key, typeof word === 'string' ? [...new Set(word.match(/\{\w+\}/g))].sort() : gaps(word)]))
  expect(gaps(messages.en)).toEqual(gaps(messages.zh))
})
