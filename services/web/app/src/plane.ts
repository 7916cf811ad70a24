// Lays outlines of areas out on a plane, and finds in each area the place where a name has the most room.
import type { Outline } from './api'

export type Point = readonly [number, number]
export type Ring = Point[]
type Span = readonly [number, number]

export interface Shape {
  code: string
  rings: Ring[]
  /** What an SVG path draws, holes left out by the even-odd rule. */
  path: string
}

/** Units of the plane: the longer side is `SIDE` long, x grows to the east and y to the south. */
export interface Plane {
  width: number
  height: number
  shapes: Shape[]
}

export interface Room {
  x: number
  y: number
  width: number
}

const SIDE = 10_000
const SCANS = 15

/** The rings of a Polygon or MultiPolygon; other geometries cover no ground. */
function rings(geometry: Outline['geometry']): Ring[] {
  if (geometry.type === 'Polygon') return geometry.coordinates as Ring[]
  return geometry.type === 'MultiPolygon' ? (geometry.coordinates as Ring[][]).flat() : []
}

/** Equirectangular: a degree of longitude is shorter than one of latitude by the cosine of the middle latitude. */
export function plane(features: Outline[]): Plane {
  const all = features.map((one) => ({ code: one.properties.code, rings: rings(one.geometry) }))
  let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity]
  for (const ring of all.flatMap((one) => one.rings)) {
    for (const [lon, lat] of ring) {
      ;[west, east] = [Math.min(west, lon), Math.max(east, lon)]
      ;[south, north] = [Math.min(south, lat), Math.max(north, lat)]
    }
  }
  const squeeze = Math.cos((((south + north) / 2) * Math.PI) / 180)
  const [wide, high] = [(east - west) * squeeze, north - south]
  const unit = SIDE / Math.max(wide, high)
  const at = ([lon, lat]: Point): Point => [Math.round((lon - west) * squeeze * unit), Math.round((north - lat) * unit)]
  const shapes = all.map(({ code, rings }) => {
    const flat = rings.map((ring) => ring.map(at))
    return { code, rings: flat, path: flat.map((ring) => `M${ring.join('L')}Z`).join('') }
  })
  return { width: wide * unit, height: high * unit, shapes }
}

/** The middle of the box around `shapes`; of none it is the corner. */
export function middle(shapes: Shape[]): Point {
  const points = shapes.flatMap((shape) => shape.rings.flat())
  if (!points.length) return [0, 0]
  const [first] = points as [Point]
  let [west, north, east, south] = [...first, ...first]
  for (const [x, y] of points) {
    ;[west, east] = [Math.min(west, x), Math.max(east, x)]
    ;[north, south] = [Math.min(north, y), Math.max(south, y)]
  }
  return [(west + east) / 2, (north + south) / 2]
}

/** The stretches of the line `y` that lie inside. */
function inside(rings: Ring[], y: number): Span[] {
  const cuts: number[] = []
  for (const ring of rings) {
    for (let i = 1; i < ring.length; i++) {
      const [[x0, y0], [x1, y1]] = [ring[i - 1]!, ring[i]!]
      if (y0 <= y !== y1 <= y) cuts.push(x0 + ((y - y0) / (y1 - y0)) * (x1 - x0))
    }
  }
  cuts.sort((a, b) => a - b)
  return Array.from({ length: cuts.length >> 1 }, (_, i) => [cuts[2 * i]!, cuts[2 * i + 1]!] as const)
}

function both(one: Span[], other: Span[]): Span[] {
  return one.flatMap(([a, b]) => other.map(([c, d]) => [Math.max(a, c), Math.min(b, d)] as const).filter(([e, f]) => e < f))
}

/** Where a text of this height can be widest without leaving the area; null where it cannot stand at all. */
export function room(shape: Shape, height: number): Room | null {
  const ys = shape.rings.flat().map(([, y]) => y)
  if (!ys.length) return null
  const [top, bottom] = [ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))]
  let [most, best]: [number, Room | null] = [0, null]
  for (let i = 1; i <= SCANS; i++) {
    const y = top + ((bottom - top) * i) / (SCANS + 1)
    const spans = [y - height / 2, y, y + height / 2].map((line) => inside(shape.rings, line)).reduce(both)
    for (const [a, b] of spans) {
      // Of places that are about as wide the one nearest to the middle looks right.
      const worth = (b - a) * (1 - Math.abs(i / (SCANS + 1) - 0.5))
      if (worth > most) [most, best] = [worth, { x: (a + b) / 2, y, width: b - a }]
    }
  }
  return best
}
