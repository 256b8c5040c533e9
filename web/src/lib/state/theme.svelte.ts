/** The theme of this device. `theme.js` applies the stored choice before the first paint. */

export type ThemeChoice = 'system' | 'dark' | 'light';

const KEY = 'rexec.theme';

export class Theme {
  choice: ThemeChoice = $state('system');
  #systemDark = $state(true);

  /** What is shown now. */
  readonly shown: 'dark' | 'light' = $derived.by(() => {
    if (this.choice !== 'system') return this.choice;
    return this.#systemDark ? 'dark' : 'light';
  });

  constructor() {
    this.choice = stored();
    const query = matchMedia('(prefers-color-scheme: dark)');
    this.#systemDark = query.matches;
    query.addEventListener('change', (event) => {
      this.#systemDark = event.matches;
    });
  }

  set(choice: ThemeChoice): void {
    this.choice = choice;
    const root = document.documentElement;
    if (choice === 'system') delete root.dataset.theme;
    else root.dataset.theme = choice;
    try {
      if (choice === 'system') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, choice);
    } catch {
      // Storage may be forbidden; the choice then lasts until the page is closed.
    }
  }
}

function stored(): ThemeChoice {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'dark' || value === 'light' ? value : 'system';
  } catch {
    return 'system';
  }
}

export const theme = new Theme();
