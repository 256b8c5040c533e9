// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { CLOSE_CODES } from '../protocol/codes';
import type { Phase } from '../protocol/phase';
import { exitText, standingOf, troubleAfter } from './status';

const waiting = (code: string, until = 900): Phase => ({
  at: 'waiting',
  until,
  ticket: false,
  cause: { code, message: 'from the other side' },
});
const dialing: Phase = { at: 'dialing', n: 2, deadline: 5_000 };

describe('standing', () => {
  it('connecting, running, and again running', () => {
    expect(standingOf(dialing, null).label).toBe('Connecting');
    expect(standingOf({ at: 'live', n: 1, since: 0 }, null).label).toBe('Running');
  });

  it('an attempt between two waits changes the countdown and nothing else', () => {
    const wait = waiting('machine_offline');
    const trouble = troubleAfter(wait, null, 100);
    const before = standingOf(wait, trouble);
    const between = standingOf(dialing, troubleAfter(dialing, trouble, 150));
    expect(before).toMatchObject({ status: 'offline', retryAt: 900 });
    expect(between).toEqual({ ...before, retryAt: null });
    expect(troubleAfter(waiting('network'), trouble, 300)).toMatchObject({ since: 100 });
    expect(troubleAfter({ at: 'live', n: 3, since: 0 }, trouble, 400)).toBeNull();
  });

  it.each(CLOSE_CODES.map((code) => [code.name, code] as const))(
    '%s is said in words of ours, with something to do',
    (name, { retry }) => {
      const cause = { code: name, message: 'from the other side' };
      const phase: Phase =
        retry === 'never' ? { at: 'over', ending: { kind: 'refused', cause } } : waiting(name);
      const { detail, remedies } = standingOf(phase, troubleAfter(phase, null, 0));
      if (name !== 'internal') expect(detail).not.toContain('other side');
      expect(remedies.length).toBeGreaterThan(0);
    },
  );

  it('a session that is gone has ended, one that is refused has stopped', () => {
    const refused = (code: string): Phase => ({
      at: 'over',
      ending: { kind: 'refused', cause: { code, message: '' } },
    });
    expect(standingOf(refused('session_not_found'), null).status).toBe('ended');
    expect(standingOf(refused('revoked'), null).status).toBe('stopped');
  });

  it('an exit says how', () => {
    expect(exitText({ code: 0, signal: null, offset: 1 })).toBe('ended');
    expect(exitText({ code: 7, signal: null, offset: 1 })).toBe('ended with exit code 7');
    expect(exitText({ code: null, signal: 9, offset: 1 })).toBe('ended by SIGKILL');
    expect(exitText({ code: null, signal: 64, offset: 1 })).toBe('ended by signal 64');
  });
});
