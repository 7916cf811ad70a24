// The colours charts are drawn in, taken from the style sheet so that light and dark are said in one place.
import { onMounted, onUnmounted, shallowRef } from 'vue'

export interface Theme {
  ink: string
  muted: string
  line: string
  surface: string
  blank: string
  cool: string[]
  warm: string[]
  series: string[]
  font: string
}

function taken(): Theme {
  const style = getComputedStyle(document.documentElement)
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim()
  const some = (name: string, n: number) => Array.from({ length: n }, (_, i) => of(`${name}-${i + 1}`))
  return {
    ink: of('ink'), muted: of('muted'), line: of('line'), surface: of('surface'), blank: of('blank'),
    cool: some('cool', 5), warm: some('warm', 5), series: some('series', 4), font: of('font'),
  }
}

/** The theme of now; changes when the reader's system goes from light to dark or back. */
export function useTheme() {
  const theme = shallowRef(taken())
  const dark = matchMedia('(prefers-color-scheme: dark)')
  const renew = () => (theme.value = taken())
  onMounted(() => dark.addEventListener('change', renew))
  onUnmounted(() => dark.removeEventListener('change', renew))
  return theme
}

/** Spreads `n` classes over the five colours, so that two classes differ clearly. */
export function shades(colours: string[], n: number): string[] {
  if (n <= 1) return colours.slice(2, 3)
  return Array.from({ length: n }, (_, i) => colours[Math.round((i * (colours.length - 1)) / (n - 1))]!)
}
