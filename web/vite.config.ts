import { svelte } from '@sveltejs/vite-plugin-svelte';
import { svelteTesting } from '@testing-library/svelte/vite';
import { loadEnv } from 'vite';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a running control; the built app is served by control itself. */
const control = loadEnv('development', '.', 'REXEC_').REXEC_DEV_SERVER ?? 'http://localhost:8080';

export default defineConfig({
  plugins: [svelte(), svelteTesting()],
  resolve: {
    alias: { $lib: new URL('./src/lib', import.meta.url).pathname },
  },
  build: {
    // The oldest browsers with light-dark(), which the themes are made of.
    target: ['chrome123', 'firefox128', 'safari17.5'],
    // Inlined assets are `data:` URLs, which the content security policy refuses.
    assetsInlineLimit: 0,
    // The preload helper would inject nothing we need: every supported browser preloads modules itself.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
  server: {
    proxy: {
      '/api': { target: control, changeOrigin: false },
      '/viewer': { target: control, ws: true },
    },
  },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.ts'],
    restoreMocks: true,
  },
});
