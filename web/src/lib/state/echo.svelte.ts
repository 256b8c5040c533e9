/** Whether this device shows what is typed before the machine has echoed it. A choice, not a secret. */
import type { EchoChoice } from '../terminal/worth';

const KEY = 'rexec.echo';
const CHOICES: readonly string[] = ['auto', 'always', 'never'] satisfies EchoChoice[];

export class Echo {
  choice: EchoChoice = $state('auto');

  constructor() {
    this.choice = stored();
  }

  set(choice: EchoChoice): void {
    this.choice = choice;
    try {
      if (choice === 'auto') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, choice);
    } catch {
      // Storage may be forbidden; the choice then lasts until the page is closed.
    }
  }
}

function stored(): EchoChoice {
  try {
    const value = localStorage.getItem(KEY) ?? '';
    return CHOICES.includes(value) ? (value as EchoChoice) : 'auto';
  } catch {
    return 'auto';
  }
}

export const echo = new Echo();
