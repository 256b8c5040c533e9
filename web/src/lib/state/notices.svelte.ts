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
  const toast = () =>
    toasts.show({ kind: bad ? 'error' : 'info', text, action: { label: 'Show', run: show } });
  if (seen || permission.state !== 'granted') toast();
  else if (!notified(text, show)) void byWorker(text, show).catch(toast);
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

/** What a click on each notification of the worker's shows. */
const shows = new Map<string, () => void>();
let worker: Promise<ServiceWorkerRegistration> | undefined;

/** The same through the service worker, which is there from the first time on. */
async function byWorker(text: string, show: () => void): Promise<void> {
  worker ??= register();
  const registration = await worker;
  shows.set(text, show);
  await registration.showNotification('Rexec', {
    body: text,
    tag: text,
    icon: '/icon-192.png',
    data: location.href,
  });
}

async function register(): Promise<ServiceWorkerRegistration> {
  // The one script that may become a worker, as the content security policy names it.
  const policy = window.trustedTypes?.createPolicy('rexec-worker', {
    createScriptURL: () => '/sw.js',
  });
  await navigator.serviceWorker.register(policy?.createScriptURL('') ?? '/sw.js');
  navigator.serviceWorker.addEventListener('message', ({ data }: MessageEvent<unknown>) => {
    const tag =
      typeof data === 'object' && data !== null && 'clicked' in data ? data.clicked : null;
    if (typeof tag === 'string') shows.get(tag)?.();
  });
  return navigator.serviceWorker.ready;
}

declare global {
  interface Window {
    /** Trusted Types, where the browser has them. */
    trustedTypes?: {
      createPolicy(
        name: string,
        rules: { createScriptURL: (url: string) => string },
      ): { createScriptURL(url: string): string };
    };
  }
}
