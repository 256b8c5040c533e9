import { beforeEach, describe, expect, it, vi } from 'vitest';
import { grouped, normalCode, shownCode } from '$lib/device/code';
import { interactiveCommands, oneLine, unattendedCommands } from '$lib/machines/install';
import { deviceOf } from './device-name';
import { takeSetupToken } from './setup-token';
import { Shortcuts } from './shortcuts.svelte';
import { Toasts } from './toasts.svelte';

describe('set-up token', () => {
  it('leaves the address bar as soon as it was read', () => {
    history.replaceState(null, '', '/setup?x=1#secret');
    expect(takeSetupToken()).toBe('secret');
    expect(location.pathname + location.search + location.hash).toBe('/setup?x=1');
    expect(takeSetupToken()).toBe('');
  });
});

describe('device code', () => {
  it('is read however it was typed', () => {
    expect(normalCode('abcd-efgh')).toBe('ABCD-EFGH');
    expect(normalCode(' ab cd ef gh ')).toBe('ABCD-EFGH');
    expect(normalCode('ABCD-EFG')).toBeUndefined();
    expect(normalCode('ABCD-EFGH-I')).toBeUndefined();
    expect(normalCode('')).toBeUndefined();
  });

  it('gets its dash while it is typed', () => {
    expect(['a', 'abcd', 'abcde', 'abcdefghij'].map(shownCode)).toEqual([
      'A',
      'ABCD',
      'ABCD-E',
      'ABCD-EFGH',
    ]);
  });

  it('a fingerprint in hex is grouped for the eye, others are left alone', () => {
    expect(grouped('0123456789')).toBe('0123 4567 89');
    expect(grouped('SHA256:n+/x')).toBe('SHA256:n+/x');
  });
});

describe('install commands', () => {
  it('are the three of the product text, with this installation in them', () => {
    expect(interactiveCommands('http://localhost:8080/').map((each) => each.command)).toEqual([
      'curl -sSL http://localhost:8080/install-agent.sh | bash',
      'rexec-agent register --name "my-laptop"',
      'rexec-agent start --daemon',
    ]);
  });

  it('never put a token on a command line', () => {
    const both = [
      ...unattendedCommands('https://x', 'file'),
      ...unattendedCommands('https://x', 'stdin'),
    ];
    expect(oneLine(both)).not.toContain('rexec_join_');
    expect(oneLine(unattendedCommands('https://x', 'file'))).toContain('--token-file ');
  });
});

describe('device names', () => {
  it.each([
    ['Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 'Firefox on Linux'],
    [
      'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/1 Safari/604.1',
      'Safari on iPhone',
    ],
    ['Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0', 'Edge on Windows'],
    ['curl/8.5.0', 'curl'],
    ['', 'Unknown device'],
  ])('%s', (agent, name) => expect(deviceOf(agent)).toBe(name));
});

describe('shortcuts', () => {
  const press = (key: string, target: Element = document.body) => {
    const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true });
    Object.defineProperty(event, 'target', { value: target });
    return event;
  };

  it('run outside fields only, and end with their page', () => {
    const shortcuts = new Shortcuts();
    const run = vi.fn();
    const end = shortcuts.add({ key: '/', label: 'Search', run });
    shortcuts.handle(press('/'));
    shortcuts.handle(press('/', document.createElement('input')));
    expect(run).toHaveBeenCalledTimes(1);
    end();
    shortcuts.handle(press('/'));
    expect(run).toHaveBeenCalledTimes(1);
    expect(shortcuts.list).toHaveLength(0);
  });

  it('the latest page wins a key, and gives it back', () => {
    const shortcuts = new Shortcuts();
    const [below, above] = [vi.fn(), vi.fn()];
    shortcuts.add({ key: 'a', label: 'below', run: below });
    const end = shortcuts.add({ key: 'a', label: 'above', run: above });
    shortcuts.handle(press('a'));
    end();
    shortcuts.handle(press('a'));
    expect([below.mock.calls.length, above.mock.calls.length]).toEqual([1, 1]);
  });
});

describe('toasts', () => {
  beforeEach(() => {
    vi.useFakeTimers();
    return () => vi.useRealTimers();
  });

  it('go by themselves, unless they are errors or looked at', () => {
    const toasts = new Toasts();
    const seen = toasts.show({ kind: 'ok', text: 'held' });
    toasts.show({ kind: 'ok', text: 'goes' });
    toasts.failed('could not rename', new Error('boom'));
    toasts.hold(seen);
    vi.advanceTimersByTime(10_000);
    expect(toasts.list.map((toast) => toast.text)).toEqual(['held', 'could not rename: boom']);
  });

  it('never pile up', () => {
    const toasts = new Toasts();
    for (let i = 0; i < 9; i++) toasts.show({ kind: 'error', text: `${i}` });
    expect(toasts.list.map((toast) => toast.text)).toEqual(['5', '6', '7', '8']);
  });
});
