// The drawing of charts, in a file of its own: it is several times the rest of the page.
export const chart = () => import('./Chart.vue')
