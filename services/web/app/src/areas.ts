// What the map shows of each area: its name, its value, and why there is none.
import type { Area, Lang, Outlines } from './api'
import type { Figure } from './figures'

/** `outside`: no node of this federation; `blank`: a node or division of which there is no such figure yet. */
export type Ground = 'figure' | 'blank' | 'outside'

export interface Patch {
  code: string
  name: string
  value: number | null
  ground: Ground
  approximate: boolean
}

/** `federated`: whether nodes lie right below, so that an area without one takes no part. */
export function areas(outlines: Outlines, rows: Area[], federated: boolean, figure: Figure, lang: Lang): Patch[] {
  const known = new Map(rows.map((row) => [row.code, row]))
  return outlines.features.map(({ properties: area }) => {
    const row = known.get(area.code)
    const value = row?.totals[figure] ?? null
    const name = (lang === 'zh' ? area.name_zh : area.name_en) ?? row?.names[lang] ?? area.code
    const ground = value !== null ? 'figure' : federated && !area.node && !row ? 'outside' : 'blank'
    return { code: area.code, name, value, ground, approximate: area.approximate }
  })
}
