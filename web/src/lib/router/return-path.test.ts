import { describe, expect, it } from 'vitest';
import { safeReturnPath, signInPath } from './return-path';

describe('return path', () => {
  it.each([
    '/',
    '/m/0192-abc',
    '/device?code=ABCD-EFGH',
    '/m/x?tab=1&split=h',
    '/m/x/files?path=%2Fetc',
  ])('%s is followed', (path) => {
    expect(safeReturnPath(path)).toBe(path);
  });

  it.each([
    ['nothing', null],
    ['an empty text', ''],
    ['another origin', 'https://evil.test/'],
    ['a scheme', 'javascript:alert(1)'],
    ['a scheme-relative address', '//evil.test/'],
    ['three slashes', '///evil.test'],
    ['a backslash', '/\\evil.test'],
    ['a backslash further in', '/m/\\\\evil.test'],
    ['an encoded backslash', '/%5cevil.test'],
    ['an encoded backslash in capitals', '/%5Cevil.test'],
    ['an encoded slash in front of a query', '/%2fevil.test?x=1'],
    ['an encoded slash', '/%2f%2fevil.test'],
    ['a tab, which browsers drop', '/\t/evil.test'],
    ['a newline', '/\n/evil.test'],
    ['an encoded newline', '/m/x%0d%0aSet-Cookie:a'],
    ['a NUL', '/\u0000'],
    ['a C1 control', '/\u0085'],
    ['a line separator', '/m/\u2028'],
    ['a space in front', ' //evil.test'],
    ['a relative name', 'm/x'],
    ['dot segments that leave two slashes', '/.//evil.test'],
    ['dot segments that climb to two slashes', '/m/..//evil.test'],
    ['a path beyond the limit', `/m/${'a'.repeat(600)}`],
    ['the sign-in page itself', '/sign-in?return=/sign-in'],
    ['the set-up page', '/setup'],
  ])('%s leads home', (_what, path) => {
    expect(safeReturnPath(path)).toBe('/');
  });

  it('sign-in remembers a place and survives its own parser', () => {
    const path = signInPath('/device?code=ABCD-EFGH');
    expect(path).toBe('/sign-in?return=%2Fdevice%3Fcode%3DABCD-EFGH');
    const back = new URL(path, 'https://app.invalid').searchParams.get('return');
    expect(safeReturnPath(back)).toBe('/device?code=ABCD-EFGH');
  });

  it('sign-in keeps its address short when there is nothing to remember', () => {
    expect(signInPath('/')).toBe('/sign-in');
    expect(signInPath('//evil.test')).toBe('/sign-in');
  });
});
