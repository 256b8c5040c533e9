import { describe, expect, it } from 'vitest';
import { filesPath, routeOf } from './routes';

describe('routes', () => {
  it('every place of the app has its address', () => {
    expect(routeOf('/', '')).toEqual({ name: 'machines' });
    expect(routeOf('/setup', '')).toEqual({ name: 'setup' });
    expect(routeOf('/sign-in', '?return=%2Fm%2Fx')).toEqual({ name: 'sign-in', back: '/m/x' });
    expect(routeOf('/device', '?code=ABCD-EFGH')).toEqual({ name: 'device', code: 'ABCD-EFGH' });
    expect(routeOf('/ai-tools', '')).toEqual({ name: 'ai-tools' });
    expect(routeOf('/settings', '')).toEqual({ name: 'settings' });
    expect(routeOf('/preview', '?to=http%3A%2F%2Fx')).toEqual({ name: 'preview', to: 'http://x' });
    const at = { machine: '0192', path: '/a b' };
    const beside = { machine: '77', path: '/x:y' };
    for (const place of [null, beside]) {
      const { pathname, search } = new URL(filesPath(at, place), 'http://x');
      expect(routeOf(pathname, search)).toEqual({ name: 'files', at, beside: place });
    }
    const workspace = { name: 'workspace', machine: '0192' };
    expect(routeOf('/m/0192', '')).toEqual({ ...workspace, session: null, alone: false });
    const one = routeOf('/m/0192', '?session=77&window=1');
    expect(one).toEqual({ ...workspace, session: '77', alone: true });
  });

  it('a slash at the end changes nothing', () => {
    expect(routeOf('/m/0192/', '').name).toBe('workspace');
    expect(routeOf('/device/', '').name).toBe('device');
  });

  it('a hostile return path is gone before any page sees it', () => {
    expect(routeOf('/sign-in', '?return=//evil.test')).toEqual({ name: 'sign-in', back: '/' });
  });

  it('anything else is not found, broken escapes included', () => {
    expect(routeOf('/nope', '').name).toBe('not-found');
    expect(routeOf('/m', '').name).toBe('not-found');
    expect(routeOf('/m/a/b', '').name).toBe('not-found');
    expect(routeOf('/m/%zz', '').name).toBe('not-found');
  });
});
