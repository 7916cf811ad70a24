// Which part of a map is seen: enlarged by buttons, moved by dragging, never beyond its edge.
import { computed, ref, type Ref } from 'vue'
import type { Point } from './plane'

const STEP = 2
const MOST = 16
/** A finger or hand trembles; below so many pixels a press is no drag. */
const TREMBLE = 5

/** How large the whole is in pixels, and of which point one gets a closer look first. */
export interface Whole {
  width: number
  height: number
  focus: Point
}

/** Where a part `zoom` times enlarged may begin along one side, so that no edge moves into the picture. */
export function held(offset: number, size: number, zoom: number): number {
  return Math.min(0, Math.max(size * (1 - zoom), offset))
}

export function useZoom(whole: Ref<Whole>) {
  const zoom = ref(1)
  const moved = ref<Point>([0, 0])
  let from: { at: Point; moved: Point } | undefined
  let dragged = false

  function hold([x, y]: Point) {
    moved.value = [held(x, whole.value.width, zoom.value), held(y, whole.value.height, zoom.value)]
  }

  /** Enlarges about what is in the middle; of the whole about the focus. */
  function to(wanted: number) {
    const { width, height, focus } = whole.value
    const [x, y] = moved.value
    const middle = zoom.value === 1 ? focus : ([(width / 2 - x) / zoom.value, (height / 2 - y) / zoom.value] as const)
    zoom.value = Math.min(MOST, Math.max(1, wanted))
    hold([width / 2 - middle[0] * zoom.value, height / 2 - middle[1] * zoom.value])
  }

  function begin(event: PointerEvent) {
    dragged = false
    if (zoom.value > 1) from = { at: [event.clientX, event.clientY], moved: moved.value }
  }
  function drag(event: PointerEvent) {
    if (!from) return
    const [x, y] = [event.clientX - from.at[0], event.clientY - from.at[1]]
    dragged ||= Math.hypot(x, y) > TREMBLE
    if (dragged) hold([from.moved[0] + x, from.moved[1] + y])
  }
  const end = () => (from = undefined)
  /** Whether the press that ended now was a drag, and so is meant for nothing else. */
  const wasDrag = () => dragged

  return {
    zoom, begin, drag, end, wasDrag,
    // Held anew, because the whole changes with the width of the window.
    moved: computed<Point>(() => [held(moved.value[0], whole.value.width, zoom.value), held(moved.value[1], whole.value.height, zoom.value)]),
    closer: () => to(zoom.value * STEP),
    farther: () => to(zoom.value / STEP),
    most: computed(() => zoom.value >= MOST),
  }
}
