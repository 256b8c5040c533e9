/** WebGL while it works and is quick, the DOM otherwise. Browsers allow few WebGL contexts, so only a shown terminal holds one. */
import { WebglAddon } from '@xterm/addon-webgl';
import type { Terminal } from '@xterm/xterm';

/** Drivers that draw by the processor (Chromium, Mesa, Windows). */
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** Whether WebGL is worth it: drawn by the processor it is slower than the DOM, and takes what the parser needs. */
function quick(): boolean {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('webgl2') as WebGL2RenderingContext | null;
  const names = context?.getExtension('WEBGL_debug_renderer_info');
  const name = names ? String(context?.getParameter(names.UNMASKED_RENDERER_WEBGL)) : '';
  context?.getExtension('WEBGL_lose_context')?.loseContext();
  return context !== null && !SOFTWARE.test(name);
}
let isQuick: boolean | null = null;

/** Contexts lost after which a terminal stays with the DOM: the driver has said enough. */
const LOSSES_MAX = 3;

/** Chooses how one terminal is drawn. */
export class Renderer {
  readonly #terminal: Terminal;
  #webgl: WebglAddon | null = null;
  #losses = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** What draws now. */
  get kind(): 'webgl' | 'dom' {
    return this.#webgl ? 'webgl' : 'dom';
  }

  /** The terminal is shown: draw it as fast as this browser can. */
  show(): void {
    if (this.#webgl || this.#losses >= LOSSES_MAX) return;
    isQuick ??= quick();
    if (!isQuick) return;
    try {
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => this.#lost());
      this.#terminal.loadAddon(webgl);
      this.#webgl = webgl;
    } catch {
      // No WebGL 2 here, or no context left: the DOM renderer is already in place.
      this.#losses = LOSSES_MAX;
    }
  }

  /** The terminal is hidden: leave the context to another one. */
  hide(): void {
    this.#webgl?.dispose();
    this.#webgl = null;
  }

  /** The font or the pixel ratio changed. */
  refresh(): void {
    this.#webgl?.clearTextureAtlas();
  }

  #lost(): void {
    this.#losses += 1;
    this.hide();
  }
}
