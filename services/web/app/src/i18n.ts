// The page's language: asked for in the address (?lang=), else remembered, else the browser's; kept in both places.
import { computed } from 'vue'
import { createI18n, useI18n } from 'vue-i18n'
import type { Lang } from './api'
import { messages } from './words'

const KEY = 'sanji.lang'
const TAG: Record<Lang, string> = { zh: 'zh-CN', en: 'en' }

function known(text: string | null): Lang | null {
  const head = text?.toLowerCase().split('-')[0]
  return head === 'zh' || head === 'en' ? head : null
}

function remembered(): string | null {
  try {
    return localStorage.getItem(KEY)
  } catch {
    return null // storage may be forbidden; the address still works
  }
}

function first(): Lang {
  const asked = new URLSearchParams(location.search).get('lang')
  return known(asked) ?? known(remembered()) ?? known(navigator.language) ?? 'zh'
}

export const i18n = createI18n({ legacy: false, locale: first(), fallbackLocale: 'zh', messages })

/** The language of now, `t`, and how to change the language. */
export function useWords() {
  const { t, locale } = useI18n()
  const lang = computed(() => locale.value as Lang)
  function speak(to: Lang) {
    locale.value = to
    keep(to)
  }
  return { t, lang, speak }
}

export function keep(lang: Lang) {
  document.documentElement.lang = TAG[lang]
  try {
    localStorage.setItem(KEY, TAG[lang])
  } catch {
    // as above: not remembered, but right for now
  }
  const here = new URL(location.href)
  if (here.searchParams.get('lang') !== TAG[lang]) {
    here.searchParams.set('lang', TAG[lang])
    history.replaceState(history.state, '', here)
  }
}

/** A child's own page in the same language; null unless it is a web address. */
export function pageOf(url: string | null | undefined, lang: Lang): string | null {
  if (!url) return null
  try {
    const to = new URL(url, location.href)
    if (to.protocol !== 'http:' && to.protocol !== 'https:') return null
    to.searchParams.set('lang', TAG[lang])
    return to.href
  } catch {
    return null
  }
}
