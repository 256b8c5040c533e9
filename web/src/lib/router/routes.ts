/** The places of the app and how an address names them. */
import { safeReturnPath } from './return-path';

export type Route =
  | { name: 'machines' }
  | { name: 'setup' }
  | { name: 'sign-in'; back: string }
  | { name: 'device'; code: string }
  /** `session`: the one to come to; `alone`: in a window of its own. */
  | { name: 'workspace'; machine: string; session: string | null; alone: boolean }
  /** `beside`: what the second pane shows, if there is one. An empty path is home. */
  | { name: 'files'; at: FilesPlace; beside: FilesPlace | null }
  /** The way into a preview at the address `to`. */
  | { name: 'preview'; to: string }
  | { name: 'settings' }
  | { name: 'ai-tools' }
  | { name: 'components' }
  | { name: 'not-found' };

/** A directory of a machine. */
export interface FilesPlace {
  readonly machine: string;
  readonly path: string;
}

/** What an address shows. Total: whatever is not a place is `not-found`. */
export function routeOf(pathname: string, search: string): Route {
  const params = new URLSearchParams(search);
  const path = pathname.length > 1 ? pathname.replace(/\/+$/, '') : pathname;
  const machine = /^\/m\/([^/]+)$/.exec(path)?.[1];
  if (machine) return workspace(machine, params);
  const files = /^\/m\/([^/]+)\/files$/.exec(path)?.[1];
  if (files) return filesRoute(files, params);
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
    case '/preview':
      return { name: 'preview', to: params.get('to') ?? '' };
    case '/ai-tools':
      return { name: 'ai-tools' };
    case '/dev/components':
      // Built into the development server alone.
      return { name: import.meta.env.DEV ? 'components' : 'not-found' };
    case '/settings':
      return { name: 'settings' };
    default:
      return { name: 'not-found' };
  }
}

/** The address of a machine's workspace, or of one session in it. */
export function workspacePath(machine: string, session?: string): string {
  const path = `/m/${encodeURIComponent(machine)}`;
  return session === undefined ? path : `${path}?session=${encodeURIComponent(session)}`;
}

/** The address of a look at files. */
export function filesPath(at: FilesPlace, beside: FilesPlace | null = null): string {
  const params = new URLSearchParams();
  if (at.path !== '') params.set('path', at.path);
  if (beside) params.set('beside', `${beside.machine}:${beside.path}`);
  const query = params.size > 0 ? `?${params}` : '';
  return `/m/${encodeURIComponent(at.machine)}/files${query}`;
}

function filesRoute(encoded: string, params: URLSearchParams): Route {
  const [, machine, path] = /^([^:]+):(.*)$/s.exec(params.get('beside') ?? '') ?? [];
  const beside = machine === undefined ? null : { machine, path: path ?? '' };
  try {
    const at = { machine: decodeURIComponent(encoded), path: params.get('path') ?? '' };
    return { name: 'files', at, beside };
  } catch {
    return { name: 'not-found' };
  }
}

function workspace(encoded: string, params: URLSearchParams): Route {
  const [session, alone] = [params.get('session'), params.has('window')];
  try {
    return { name: 'workspace', machine: decodeURIComponent(encoded), session, alone };
  } catch {
    return { name: 'not-found' };
  }
}
