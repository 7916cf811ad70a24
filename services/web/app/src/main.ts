// Starts the page.
import { createApp } from 'vue'
import App from './App.vue'
import { i18n, keep } from './i18n'
import { chart } from './parts/chart'
import './style.css'

keep(i18n.global.locale.value)
createApp(App).use(i18n).mount('#app')
// The largest part of the page comes while the figures are being read, and is not waited for.
void chart()
