// Starts the page.
import { createApp } from 'vue'
import App from './App.vue'
import { i18n, keep } from './i18n'
import './style.css'

keep(i18n.global.locale.value)
createApp(App).use(i18n).mount('#app')
