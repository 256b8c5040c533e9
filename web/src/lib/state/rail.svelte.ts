/** Whether the activity is shown beside the machines, on this device. */

const KEY = 'rexec.activity';

export class RailState {
  open = $state(stored());

  toggle(): void {
    this.open = !this.open;
    try {
      localStorage.setItem(KEY, this.open ? 'open' : 'closed');
    } catch {
      // Storage may be forbidden; the choice then lasts until the page is closed.
    }
  }
}

/** Open where there is room beside the list, unless the person decided. */
function stored(): boolean {
  try {
    const value = localStorage.getItem(KEY);
    if (value !== null) return value === 'open';
  } catch {
    // As if nothing was decided.
  }
  return matchMedia('(min-width: 1400px)').matches;
}

export const rail = new RailState();
