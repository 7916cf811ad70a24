// The present moment, a second at a time, so that "12 s ago" goes on counting.
import { onMounted, onUnmounted, ref } from 'vue'

/** Milliseconds since 1970 by the reader's clock. */
export function useNow() {
  const now = ref(Date.now())
  let timer: ReturnType<typeof setInterval> | undefined
  onMounted(() => (timer = setInterval(() => (now.value = Date.now()), 1_000)))
  onUnmounted(() => clearInterval(timer))
  return now
}
