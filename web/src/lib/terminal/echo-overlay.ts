/** Draws predictions over a terminal, whatever renders it: an element of its own, in the terminal's grid. */
import type { IDisposable, Terminal } from '@xterm/xterm';
import type { Overlay, View } from './prediction';

interface Cell {
  readonly col: number;
  readonly text: string;
  /** `real`: what the terminal's own cursor stands on, drawn over it, because that cursor lags behind. */
  readonly look: 'guess' | 'real' | 'cursor';
}

/** The drawing over one terminal. */
export class EchoOverlay {
  readonly #terminal: Terminal;
  readonly #view: View;
  readonly #element = document.createElement('div');
  readonly #listening: IDisposable[];
  #overlay: Overlay | null = null;
  #hidden = true;
  /** What the element holds. */
  #drawn = '';

  constructor(terminal: Terminal, view: View) {
    this.#terminal = terminal;
    this.#view = view;
    this.#element.className = 'echo';
    this.#element.dataset.testid = 'echo';
    this.#element.setAttribute('aria-hidden', 'true');
    this.#element.hidden = true;
    // After each rendering: the terminal may have scrolled, or its cursor moved.
    this.#listening = [
      terminal.onRender(() => this.#place()),
      terminal.onScroll(() => this.#place()),
    ];
  }

  /** The terminal is on the page. */
  open(): void {
    this.#terminal.element?.querySelector('.xterm-screen')?.append(this.#element);
  }

  /** Draws; null: nothing. */
  draw(overlay: Overlay | null): void {
    if (!overlay && !this.#overlay) return;
    this.#overlay = overlay;
    this.#place();
  }

  /** Takes it off the page. */
  dispose(): void {
    for (const listening of this.#listening) listening.dispose();
    this.#element.remove();
  }

  #place(): void {
    const { rows, buffer, options } = this.#terminal;
    const row = (this.#overlay?.row ?? -1) - buffer.active.viewportY;
    const visible = this.#overlay !== null && row >= 0 && row < rows;
    // A flood scrolls thousands of lines a second: what is hidden and stays so costs nothing.
    if (!visible) {
      if (!this.#hidden) this.#element.hidden = this.#hidden = true;
      return;
    }
    this.#fill(this.#overlay);
    this.#element.hidden = this.#hidden = false;
    this.#element.style.top = `${(100 * row) / rows}%`;
    this.#element.style.height = `${100 / rows}%`;
    this.#element.style.fontFamily = options.fontFamily ?? '';
    this.#element.style.fontSize = `${options.fontSize}px`;
  }

  #fill(overlay: Overlay | null): void {
    if (!overlay) return;
    const { row, cursor } = overlay;
    const guessed = new Map(overlay.cells.map(({ col, text }) => [col, text]));
    const real = (col: number) => this.#view.cell(row, col) ?? ' ';
    const cells: Cell[] = [...guessed].map(([col, text]) => ({ col, text, look: 'guess' }));
    if (this.#view.row === row && !guessed.has(this.#view.col) && this.#view.col !== cursor)
      cells.push({ col: this.#view.col, text: real(this.#view.col), look: 'real' });
    cells.push({ col: cursor, text: guessed.get(cursor) ?? real(cursor), look: 'cursor' });
    const drawn = JSON.stringify([cells, this.#terminal.cols]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#element.replaceChildren(...cells.map((cell) => this.#make(cell)));
  }

  #make({ col, text, look }: Cell): HTMLElement {
    const cell = document.createElement('span');
    cell.className = look;
    cell.textContent = text;
    cell.style.left = `${(100 * col) / this.#terminal.cols}%`;
    cell.style.width = `${100 / this.#terminal.cols}%`;
    return cell;
  }
}
