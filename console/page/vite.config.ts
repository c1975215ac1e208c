import { defineConfig } from 'vite';
import { svelte } from '@sveltejs/vite-plugin-svelte';

// What is built is committed and embedded: the names of the files are fixed, and
// nothing in them depends on the machine or the day.
export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: 'es2022',
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: { entryFileNames: 'app.js', chunkFileNames: 'app-[name].js', assetFileNames: 'app[extname]' },
    },
  },
});
