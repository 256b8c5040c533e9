import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { preferences } from './preferences.svelte';
import { DEFAULTS, KEYS, parseSettings, SettingsStore, wrongWith } from './settings.svelte';

describe('settings', () => {
  beforeEach(() => localStorage.clear());
  afterEach(() => {
    preferences.clear();
    vi.unstubAllGlobals();
  });

  it('defaults can be set', () => {
    for (const key of KEYS) expect(wrongWith(key, DEFAULTS[key]), key).toBeNull();
  });

  it('the device comes before the account, the account before the default', () => {
    const settings = new SettingsStore();
    expect(settings.value.fontSize).toBe(13.5);
    settings.set('account', 'fontSize', 15);
    expect(settings.value.fontSize).toBe(15);
    settings.set('device', 'fontSize', 18);
    expect(settings.value.fontSize).toBe(18);
    expect(new SettingsStore().value.fontSize).toBe(18);
    settings.set('device', 'fontSize', 15);
    expect(settings.device).toEqual({});
    settings.set('account', 'fontSize', undefined);
    expect(settings.value.fontSize).toBe(13.5);
  });

  it('what was kept and is no setting is as if it were not there', () => {
    const hostile = {
      fontSize: 9_000,
      cursor: 'x',
      bell: 'off',
      scrollback: '7',
      __proto__: 1,
      y: 2,
    };
    expect(parseSettings(hostile)).toEqual({ bell: 'off' });
    for (const nothing of [null, 7, 'x', []]) expect(parseSettings(nothing)).toEqual({});
    expect(wrongWith('fontFamily', 'x"; background: url(//evil)')).not.toBeNull();
    localStorage.setItem('rexec.settings', '{');
    expect(new SettingsStore().device).toEqual({});
  });

  it('what is set in the account is kept there once, after a pause', async () => {
    vi.useFakeTimers();
    const put = vi.fn<typeof fetch>(async () => new Response(null, { status: 204 }));
    vi.stubGlobal('fetch', put);
    const settings = new SettingsStore();
    settings.set('account', 'bell', 'off');
    settings.set('account', 'bell', 'sound');
    await vi.advanceTimersByTimeAsync(1_000);
    expect(put).toHaveBeenCalledTimes(1);
    const request = put.mock.calls[0]?.[0] as Request;
    expect([request.method, new URL(request.url).pathname]).toEqual([
      'PUT',
      '/api/me/preferences/terminal',
    ]);
    expect(await request.json()).toEqual({ bell: 'sound' });
    vi.useRealTimers();
  });

  it('what could not be kept is kept later', async () => {
    vi.useFakeTimers();
    const put = vi.fn<typeof fetch>().mockRejectedValueOnce(new TypeError('offline'));
    put.mockImplementation(async () => new Response(null, { status: 204 }));
    vi.stubGlobal('fetch', put);
    preferences.set('workspace', { places: [] });
    await vi.advanceTimersByTimeAsync(1_000);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(put).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(put).toHaveBeenCalledTimes(2);
    vi.useRealTimers();
  });
});
