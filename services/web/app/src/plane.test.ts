// Outlines on a plane: their proportions, the room in them, which names are shown, and what is seen enlarged.
import { describe, expect, it } from 'vitest'
import { ref } from 'vue'
import type { Outline } from './api'
import { broken, labels, LEADING, wide } from './labels'
import { middle, plane, room, type Plane } from './plane'
import { held, useZoom } from './zoom'

type Corner = [number, number]

function square(code: string, west: number, south: number, size: number, more: Corner[][] = []): Outline {
  const ring: Corner[] = [[west, south], [west + size, south], [west + size, south + size], [west, south + size], [west, south]]
  return {
    type: 'Feature', geometry: { type: 'Polygon', coordinates: [ring, ...more] },
    properties: { code, name_zh: code, name_en: code, kind: 'node', node: true, approximate: false },
  }
}

describe('the plane', () => {
  it('a degree of longitude at 60° is half as long as one of latitude, and north is up', () => {
    const found = plane([square('a', 80, 59, 2)])
    expect(found.height).toBe(10_000)
    expect(found.width).toBeCloseTo(5_000, 6)
    expect(found.shapes[0]!.rings[0]![0]).toEqual([0, 10_000])
    expect(found.shapes[0]!.path).toMatch(/^M0,10000L5000,10000L5000,0L0,0L0,10000Z$/)
  })
  it('parts of one area are one path; what has no ground is none', () => {
    const [one, other] = [square('a', 0, 0, 1), square('a', 3, 0, 1)]
    const parts = [one.geometry.coordinates, other.geometry.coordinates]
    const both: Outline = { ...one, geometry: { type: 'MultiPolygon', coordinates: parts } }
    const none: Outline = { ...one, geometry: { type: 'Point', coordinates: [0, 0] } }
    expect(plane([both, none]).shapes.map((shape) => shape.path.split('M').length - 1)).toEqual([2, 0])
  })
  it('the middle of some of the shapes', () => {
    const shapes = plane([square('a', 0, -0.5, 1), square('b', 3, -0.5, 1)]).shapes
    expect(middle(shapes)[0]).toBe(5_000)
    expect(middle(shapes.slice(0, 1))[0]).toBe(1_250)
    expect(middle([])).toEqual([0, 0])
  })
})

describe('room for a name', () => {
  it('is the whole width of a square, in its middle', () => {
    const found = room(plane([square('a', 0, -0.5, 1)]).shapes[0]!, 100)!
    expect(found.x).toBeCloseTo(5_000, -1)
    expect(found.y).toBeCloseTo(5_000, -1)
    expect(found.width).toBeCloseTo(10_000, -1)
  })
  it('is beside a hole, not in it', () => {
    const hole: Corner[] = [[0.1, -0.4], [0.1, 0.4], [0.6, 0.4], [0.6, -0.4], [0.1, -0.4]]
    const found = room(plane([square('a', 0, -0.5, 1, [hole])]).shapes[0]!, 4_000)!
    expect(found.x).toBeCloseTo(8_000, -2)
    expect(found.width).toBeCloseTo(4_000, -2)
  })
  it('is none where the text is higher than the area', () => {
    expect(room(plane([square('a', 0, 0, 1)]).shapes[0]!, 10_001)).toBeNull()
  })
})

describe('names on the map', () => {
  const map: Plane = plane([square('large', 0, -0.5, 1), square('small', 1, -0.5, 0.1), square('next', 1.1, -0.5, 0.1)])
  const scale = 300 / map.width
  const wanted = (code: string, always = false) => ({ code, name: code, always })

  it('are shown where they fit, and of nodes always', () => {
    const shown = labels([wanted('large'), wanted('small'), wanted('next', true)], map, scale)
    expect(shown.map((label) => label.code).sort()).toEqual(['large', 'next'])
  })
  it('never cover one another', () => {
    const [one, other] = labels([wanted('small', true), wanted('next', true)], map, scale)
    expect(Math.abs(one!.y - other!.y)).toBeGreaterThanOrEqual(LEADING)
  })
  it('stay within the map', () => {
    const [label] = labels([{ code: 'next', name: 'a name that is rather long', always: true }], map, scale)
    expect(label!.x + wide(label!.lines[0]!) / 2).toBeLessThanOrEqual(map.width * scale)
  })
  it('break between words into lines of about the same length', () => {
    expect(broken('Bayingolin Mongol Autonomous Prefecture', 2)).toEqual(['Bayingolin Mongol', 'Autonomous Prefecture'])
    expect(broken('巴音郭楞蒙古自治州', 3)).toEqual(['巴音郭楞蒙古自治州'])
  })
  it('a Chinese name takes more room than a Latin one of as many letters', () => expect(wide('喀什')).toBeGreaterThan(wide('Ka')))
})

describe('a closer look', () => {
  const whole = () => ref({ width: 400, height: 200, focus: [100, 50] as const })
  it('begins at the focus and never shows what lies beyond the edge', () => {
    const { zoom, moved, closer, farther } = useZoom(whole())
    closer()
    expect([zoom.value, ...moved.value]).toEqual([2, 0, 0])
    closer()
    expect([zoom.value, ...moved.value]).toEqual([4, -200, -100])
    farther()
    farther()
    farther()
    expect([zoom.value, ...moved.value.map(Math.abs)]).toEqual([1, 0, 0])
  })
  it('holds what is dragged too far', () => {
    expect([held(30, 400, 2), held(-500, 400, 2), held(-100, 400, 2)]).toEqual([0, -400, -100])
  })
})
