// The trend's days: holes filled where the stretch is short, left out where it is long.
import { describe, expect, it } from 'vitest'
import type { Day } from './api'
import { stretch } from './days'

const day = (text: string, reported = 1): Day => ({ day: text, reported, filed: 0, closed: 0, closed_on_time: 0 })

describe('the days of the trend', () => {
  it('none of nothing', () => expect(stretch([])).toBeNull())
  it('one alone', () => expect(stretch([day('2026-03-02')])).toMatchObject({ first: '2026-03-02', last: '2026-03-02', gaps: false }))
  it('a hole is a day without cases, also over the end of February', () => {
    const found = stretch([day('2024-03-01'), day('2024-02-28', 4)])!
    expect(found.days.map((one) => [one.day, one.reported])).toEqual([['2024-02-28', 4], ['2024-02-29', 0], ['2024-03-01', 1]])
    expect(found.gaps).toBe(false)
  })
  it('a record spread over years shows its own days only, and says so', () => {
    const found = stretch([day('2014-01-01'), day('2019-12-31')])!
    expect(found.days).toHaveLength(2)
    expect(found.gaps).toBe(true)
  })
})
