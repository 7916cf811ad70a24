// The colours charts are drawn in, taken from the style sheet so that light and dark are said in one place.
import { onMounted, onUnmounted, shallowRef } from 'vue'

export interface Theme {
  ink: string
  muted: string
  line: string
  surface: string
  series: string[]
  font: string
}

function taken(): Theme {
  const style = getComputedStyle(document.documentElement)
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim()
  const some = (name: string, n: number) => Array.from({ length: n }, (_, i) => of(`${name}-${i + 1}`))
  return {
    ink: of('ink'), muted: of('muted'), line: of('line'), surface: of('surface'), series: some('series', 4), font: of('font'),
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
