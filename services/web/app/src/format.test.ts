// The words for numbers, and the classes of the map, at their edges.
import { describe, expect, it } from 'vitest'
import { classes, place, shades } from './classes'
import { count, duration, instant, NONE, percent, since } from './format'

describe('what is not known shows as a dash', () => {
  it.each([null, undefined, Number.NaN])('%s', (value) => {
    for (const lang of ['zh', 'en'] as const) {
      expect([count(value, lang), percent(value, lang), duration(value, lang)]).toEqual([NONE, NONE, NONE])
    }
  })
  it('an instant that is none', () => {
    expect([instant(null, 'en'), instant('soon', 'zh')]).toEqual([NONE, NONE])
  })
})

describe('durations', () => {
  it.each([
    [0, '0 s', '0 秒'],
    [59.9, '59 s', '59 秒'],
    [60, '1 min', '1 分'],
    [3_661, '1 h 1 min', '1 小时 1 分'],
    [7_200, '2 h', '2 小时'],
    [93_784, '1 d 2 h', '1 天 2 小时'],
    [86_400 * 400, '400 d', '400 天'],
  ])('%s s', (seconds, en, zh) => {
    expect([duration(seconds, 'en'), duration(seconds, 'zh')]).toEqual([en, zh])
  })
  it('a span that runs backwards is not known', () => expect(duration(-1, 'en')).toBe(NONE))
})

describe('shares', () => {
  it.each([[0, '0%'], [1, '100%'], [0.875, '87.5%'], [0.81, '81.0%'], [0.9999, '99.9%'], [0.00001, '0.1%']])('%s', (share, words) => {
    expect(percent(share, 'en')).toBe(words)
  })
})

describe('how long ago', () => {
  const noon = Date.parse('2026-03-02T12:00:00Z')
  it.each([
    ['2026-03-02T11:59:30.500000Z', 29.5],
    ['2026-03-02T12:00:04Z', 0],
    [null, null],
    ['soon', null],
  ])('%s', (text, seconds) => expect(since(text, noon)).toBe(seconds))
})

it('an English date cannot be taken for another', () => {
  expect(instant('2026-04-03T12:00:00Z', 'en')).toMatch(/0?3 Apr 2026/)
})

it('counts are grouped', () => expect(count(1234567, 'en')).toBe('1,234,567'))

describe('classes', () => {
  it('none of nothing', () => expect(classes([], 5)).toEqual([]))
  it('one for each value when there are few', () => {
    expect(classes([3, 1, 3], 5)).toEqual([{ low: 1, high: 1 }, { low: 3, high: 3 }])
  })
  it('never part equal values and hold every value', () => {
    const values = [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    const found = classes(values, 5)
    expect(found[0]).toEqual({ low: 0, high: 0 })
    expect(values.every((value) => place(value, found) >= 0)).toBe(true)
    expect(place(null, found)).toBe(-1)
  })
  it('few keep away from the ends of the colours, five take all', () => {
    expect([1, 2, 3, 5].map((n) => shades('cool', n))).toEqual([
      ['cool-3'],
      ['cool-2', 'cool-4'],
      ['cool-2', 'cool-3', 'cool-4'],
      ['cool-1', 'cool-2', 'cool-3', 'cool-4', 'cool-5'],
    ])
    expect(new Set(shades('warm', 4)).size).toBe(4)
  })
})
