/**
 * Reports of focus (mode 1004). xterm sends one whenever a program switches the mode on, too, so every viewer that parses
 * those bytes, replayed ones included, would type into the shell. Only a real change of focus passes (THREATS OUT-02).
 */

// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence begins with one
const REPORT = /^\u001b\[[IO]$/;

/** Tells reports of a real change of focus from others. */
export class FocusReports {
  #changing = false;

  /** Watches a terminal's text area, from before xterm's own listeners on it until after them. */
  watch(element: HTMLElement, textarea: HTMLElement, signal: AbortSignal): void {
    for (const type of ['focus', 'blur']) {
      const begins = ({ target }: Event) => {
        if (target === textarea) this.#changing = true;
      };
      const ends = () => {
        this.#changing = false;
      };
      element.addEventListener(type, begins, { capture: true, signal });
      textarea.addEventListener(type, ends, { signal });
    }
  }

  /** Whether what the terminal says may be sent. */
  passes(data: string): boolean {
    return this.#changing || !REPORT.test(data);
  }
}
