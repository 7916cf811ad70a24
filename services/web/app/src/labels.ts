// Which names a map shows, and in how many lines: those with room in their own area, and always those of nodes.
import { room, type Plane, type Shape } from './plane'

export interface Wanted {
  code: string
  name: string
  /** Shown even where it has to reach beyond its area. */
  always: boolean
}

export interface Label {
  code: string
  /** In pixels: the middle of the text. */
  x: number
  y: number
  lines: string[]
}

export const SIZE = 12
export const LEADING = 15
const MARGIN = 6
const MOST_LINES = 3
const NEARBY = [0, -0.6, 0.6, -1.2, 1.2]

/** Pixels a text takes: a Chinese character is as wide as it is high, a Latin one about half of that. */
export function wide(text: string): number {
  return [...text].reduce((sum, letter) => sum + (letter > '\u2E7F' ? 1 : 0.58), 0) * SIZE
}

/** The words of `name` in at most `count` lines of about the same length. */
export function broken(name: string, count: number): string[] {
  const words = name.split(' ')
  const lines: string[] = []
  const aim = wide(name) / count
  for (const word of words) {
    const line = lines.at(-1)
    if (line && (lines.length === count || wide(line) + wide(word) / 2 <= aim)) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(word)
  }
  return lines
}

function box(label: Label) {
  const width = Math.max(...label.lines.map(wide)) + MARGIN
  const height = label.lines.length * LEADING
  return { left: label.x - width / 2, right: label.x + width / 2, top: label.y - height / 2, bottom: label.y + height / 2, width }
}

function apart(a: Label, b: Label): boolean {
  const [one, other] = [box(a), box(b)]
  return one.right <= other.left || other.right <= one.left || one.bottom <= other.top || other.bottom <= one.top
}

/** The label as it fits into its area at `scale` pixels a unit; null where it does not. */
function fitting(wanted: Wanted, shape: Shape, scale: number): Label | null {
  for (let count = 1; count <= MOST_LINES; count++) {
    const lines = broken(wanted.name, count)
    const found = room(shape, (lines.length * LEADING) / scale)
    const label = found && { code: wanted.code, x: found.x * scale, y: found.y * scale, lines }
    if (label && box(label).width <= found.width * scale) return label
  }
  return null
}

/** In the middle of the area whether it has room or not, or a little above or below; the first is the best. */
function anyway(wanted: Wanted, shape: Shape, scale: number, width: number): Label[] {
  const found = room(shape, 0)
  if (!found) return []
  const half = (wide(wanted.name) + MARGIN) / 2
  // Never beyond the edge of the map, where it would be cut.
  const x = Math.min(Math.max(found.x * scale, half), Math.max(half, width - half))
  return NEARBY.map((lines) => ({ code: wanted.code, x, y: found.y * scale + lines * LEADING, lines: [wanted.name] }))
}

/** `wanted` in order of importance; a name that would cover one before it is left out. */
export function labels(wanted: Wanted[], plane: Plane, scale: number): Label[] {
  const shapes = new Map(plane.shapes.map((shape) => [shape.code, shape]))
  const placed: Label[] = []
  for (const one of [...wanted.filter((w) => w.always), ...wanted.filter((w) => !w.always)]) {
    const shape = shapes.get(one.code)
    if (!shape) continue
    const ways = [fitting(one, shape, scale) ?? [], one.always ? anyway(one, shape, scale, plane.width * scale) : []].flat()
    const label = ways.find((way) => placed.every((other) => apart(way, other)))
    if (label) placed.push(label)
  }
  return placed
}
