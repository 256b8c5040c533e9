/** Copying to the clipboard with a moment of feedback. */

/** How long the tick stays, in ms. */
const DONE_MS = 1600;

export class Copier {
  /** True for a moment after a copy. */
  done = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  async copy(text: string): Promise<void> {
    if (!(await write(text))) return;
    this.done = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.done = false;
    }, DONE_MS);
  }
}

/** The clipboard API wants a secure context; a page over plain http on a LAN address has only the old command. */
async function write(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeBySelection(text);
  }
}

function writeBySelection(text: string): boolean {
  const area = document.createElement('textarea');
  area.value = text;
  area.setAttribute('readonly', '');
  area.className = 'sr-only';
  const before = document.activeElement;
  // Inside an open modal dialog only its own content can be focused.
  const host = document.querySelector('dialog[open]') ?? document.body;
  host.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  if (before instanceof HTMLElement) before.focus();
  return copied;
}
