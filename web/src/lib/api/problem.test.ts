import { describe, expect, it } from 'vitest';
import { asProblem, problemOf, retryAfter } from './problem';

const answer = (status: number, headers: Record<string, string> = {}) =>
  new Response(null, { status, headers });

describe('problem', () => {
  it('carries what the server said, down to the field', () => {
    const problem = problemOf(answer(422), {
      type: 'https://rexec.dev/problems/invalid',
      title: 'invalid',
      status: 422,
      code: 'invalid',
      detail: 'the name is taken',
      hint: 'choose another',
      field: 'name',
      request_id: 'r1',
    });
    expect(problem).toMatchObject({
      status: 422,
      code: 'invalid',
      detail: 'the name is taken',
      hint: 'choose another',
      field: 'name',
      requestId: 'r1',
    });
    expect(problem.message).toBe('the name is taken');
  });

  it('names what came when a proxy answered with a page of its own', () => {
    const problem = problemOf(answer(502, { 'content-type': 'text/html' }), '<html>');
    expect(problem.code).toBe('http_502');
    expect(problem.detail).toContain('text/html');
  });

  it('does not trust the types of the fields', () => {
    const problem = problemOf(answer(400), { detail: 7, hint: null, field: ['x'] });
    expect(problem.hint).toBeUndefined();
    expect(problem.field).toBeUndefined();
    expect(problem.detail).not.toBe(7);
  });

  it('knows when to come back, from seconds and from a date', () => {
    expect(retryAfter('42')).toBe(42);
    const now = Date.parse('2026-11-22T10:00:00Z');
    expect(retryAfter('Sun, 22 Nov 2026 10:00:30 GMT', now)).toBe(30);
    expect(retryAfter('Sun, 22 Nov 2026 09:00:00 GMT', now)).toBe(0);
    expect(retryAfter('soon')).toBeUndefined();
    expect(retryAfter(null)).toBeUndefined();
  });

  it('makes a problem of anything thrown', () => {
    expect(asProblem(new Error('boom')).detail).toBe('boom');
    expect(asProblem('text').detail).toBe('text');
  });
});
