/** The places of the app and how an address names them. */
import { safeReturnPath } from './return-path';

export type Route =
  | { name: 'machines' }
  | { name: 'setup' }
  | { name: 'sign-in'; back: string }
  | { name: 'device'; code: string }
  | { name: 'workspace'; machine: string }
  | { name: 'not-found' };

/** What an address shows. Total: whatever is not a place is `not-found`. */
export function routeOf(pathname: string, search: string): Route {
  const params = new URLSearchParams(search);
  const path = pathname.length > 1 ? pathname.replace(/\/+$/, '') : pathname;
  const machine = /^\/m\/([^/]+)$/.exec(path)?.[1];
  if (machine) return workspace(machine);
  switch (path) {
    case '':
    case '/':
      return { name: 'machines' };
    case '/setup':
      return { name: 'setup' };
    case '/sign-in':
      return { name: 'sign-in', back: safeReturnPath(params.get('return')) };
    case '/device':
      return { name: 'device', code: params.get('code') ?? '' };
    default:
      return { name: 'not-found' };
  }
}

/** The address of a machine's workspace. */
export function workspacePath(machine: string): string {
  return `/m/${encodeURIComponent(machine)}`;
}

function workspace(encoded: string): Route {
  try {
    return { name: 'workspace', machine: decodeURIComponent(encoded) };
  } catch {
    return { name: 'not-found' };
  }
}
