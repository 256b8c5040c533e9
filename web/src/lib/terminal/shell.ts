/**
 * What a shell says of itself: where it is (OSC 7) and where its prompts and commands begin and end (OSC 133, and 633 of VS
 * Code's scripts). What is said is a program's word: shown, never acted on.
 */
import type { IMarker, Terminal } from '@xterm/xterm';

/** What the shell tells. */
export interface ShellReports {
  /** It is in this directory now. */
  cwd(path: string): void;
  /** A command ended that began `seconds` ago; `code` is null where the shell does not say. */
  finished(code: number | null, seconds: number): void;
}

/** Prompts remembered: as many as a scrollback of long outputs has. */
const PROMPTS_MAX = 2_000;
const PATH_MAX = 1_024;

export class Shell {
  readonly #terminal: Terminal;
  readonly #reports: ShellReports;
  #prompts: IMarker[] = [];
  #began: number | null = null;

  constructor(terminal: Terminal, reports: ShellReports) {
    this.#terminal = terminal;
    this.#reports = reports;
    const { parser } = terminal;
    parser.registerOscHandler(7, (data) => this.#directory(data));
    parser.registerOscHandler(133, (data) => this.#mark(data));
    parser.registerOscHandler(633, (data) => this.#mark(data));
  }

  /** Scrolls to the prompt before or after what is at the top. False: there is none. */
  jump(back: boolean): boolean {
    this.#prompts = this.#prompts.filter((marker) => !marker.isDisposed);
    const top = this.#terminal.buffer.active.viewportY;
    const lines = this.#prompts.map(({ line }) => line);
    const line = back ? lines.findLast((at) => at < top) : lines.find((at) => at > top);
    if (line === undefined) return false;
    this.#terminal.scrollToLine(line);
    return true;
  }

  /** The screen was painted anew: what was running is not known any more. */
  reset(): void {
    this.#began = null;
  }

  #directory(data: string): boolean {
    const path = pathOf(data);
    if (path !== null) this.#reports.cwd(path);
    return true;
  }

  #mark(data: string): boolean {
    const [what, value = ''] = data.split(';', 2);
    if (what === 'A') this.#prompt();
    if (what === 'C') this.#began = performance.now();
    if (what === 'D') this.#ended(value);
    if (what === 'P' && value.startsWith('Cwd=')) this.#directory(`file://${value.slice(4)}`);
    return true;
  }

  #prompt(): void {
    this.#began = null;
    if (this.#terminal.buffer.active.type !== 'normal') return;
    const marker = this.#terminal.registerMarker(0);
    if (this.#prompts.at(-1)?.line === marker.line) marker.dispose();
    else this.#prompts.push(marker);
    if (this.#prompts.length > PROMPTS_MAX) this.#prompts.shift()?.dispose();
  }

  #ended(value: string): void {
    const began = this.#began;
    this.#began = null;
    if (began === null) return;
    const code = /^\d{1,3}$/.test(value) ? Number(value) : null;
    this.#reports.finished(code, (performance.now() - began) / 1_000);
  }
}

/** The directory in `file://host/path`; null: there is none. */
export function pathOf(data: string): string | null {
  const encoded = /^(?:file|kitty-shell-cwd):\/\/[^/]*(\/.*)$/s.exec(data)?.[1];
  if (encoded === undefined || encoded.length > 4 * PATH_MAX) return null;
  try {
    const path = decodeURIComponent(encoded).replaceAll(/\p{C}/gu, '');
    return path.length <= PATH_MAX ? path : null;
  } catch {
    return null;
  }
}

/** A directory as it is said among people: its last part. */
export function lastPart(path: string): string {
  return path.replace(/\/+$/, '').split('/').at(-1) || '/';
}
