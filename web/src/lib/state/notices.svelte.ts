/** Telling a person who may be elsewhere: a toast on the page that is looked at, else a notification of the browser. */
import { toasts } from './toasts.svelte';

/** What is told. */
export interface Notice {
  readonly text: string;
  /** Brings what it is about to the front. */
  readonly show: () => void;
  readonly bad?: boolean;
}

/** Whether the browser may notify. */
export class Permission {
  /** `unsupported` where there are none, or where the page is not on https. */
  state: NotificationPermission | 'unsupported' = $state(now());

  /** Asks the person, by the browser. */
  async ask(): Promise<void> {
    if (this.state === 'unsupported') return;
    this.state = await Notification.requestPermission();
  }
}

function now(): NotificationPermission | 'unsupported' {
  return 'Notification' in window && isSecureContext ? Notification.permission : 'unsupported';
}

export const permission = new Permission();

/** Tells it. */
export function tell({ text, show, bad = false }: Notice): void {
  const seen = document.visibilityState === 'visible' && document.hasFocus();
  if (!seen && permission.state === 'granted' && notified(text, show)) return;
  toasts.show({ kind: bad ? 'error' : 'info', text, action: { label: 'Show', run: show } });
}

function notified(text: string, show: () => void): boolean {
  try {
    const notification = new Notification('Rexec', {
      body: text,
      tag: text,
      icon: '/icon-192.png',
    });
    notification.onclick = () => {
      window.focus();
      show();
      notification.close();
    };
    return true;
  } catch {
    // Phones allow them to service workers only.
    return false;
  }
}
