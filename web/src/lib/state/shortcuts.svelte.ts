/** Single-key shortcuts outside text fields, listed on the sheet that `?` opens. */

export interface Shortcut {
  /** `KeyboardEvent.key`, or `mod+k` for ⌘K and Ctrl+K. */
  key: string;
  label: string;
  run: () => void;
}

export class Shortcuts {
  list: readonly Shortcut[] = $state.raw([]);

  /** Registers shortcuts for as long as their page is shown; returns what removes them. */
  add(...shortcuts: Shortcut[]): () => void {
    this.list = [...this.list, ...shortcuts];
    return () => {
      this.list = this.list.filter((each) => !shortcuts.includes(each));
    };
  }

  /** Runs the shortcut of a key press, unless the press belongs to a field, a dialog or the terminal. */
  handle(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.repeat || event.isComposing) return;
    // A dialog has the page to itself, wherever the focus is; Escape is its own.
    if (document.querySelector('dialog[open]')) return;
    const key = named(event);
    const typed = event.target instanceof Element && taken(event.target);
    if (typed && !key.startsWith('mod+')) return;
    const shortcut = this.list.findLast((each) => each.key === key);
    if (!shortcut) return;
    event.preventDefault();
    shortcut.run();
  }
}

function named(event: KeyboardEvent): string {
  const mod = event.ctrlKey || event.metaKey;
  if (event.altKey) return `alt+${event.key}`;
  return mod ? `mod+${event.key.toLowerCase()}` : event.key;
}

function taken(target: Element): boolean {
  return (
    target.closest('input, textarea, select, [contenteditable], dialog, [role="menu"], .xterm') !==
    null
  );
}

export const shortcuts = new Shortcuts();
