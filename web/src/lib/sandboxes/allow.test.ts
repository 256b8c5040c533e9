import { describe, expect, test } from 'vitest';
import { checkAllow, parseAllow } from './allow';

describe('where a sandbox may go', () => {
  test('is written as people write it', () => {
    expect(
      parseAllow(' PyPI.org, *.debian.org:80;https://github.com/\nhttp://deb.debian.org '),
    ).toEqual([
      { host: 'pypi.org', port: 443 },
      { host: '*.debian.org', port: 80 },
      { host: 'github.com', port: 443 },
      { host: 'deb.debian.org', port: 80 },
    ]);
    expect(checkAllow('pypi.org, 1.1.1.1:53')).toBeUndefined();
  });

  test('says what is wrong, and with what', () => {
    expect(checkAllow(' ')).toContain('at least one');
    for (const bad of [
      'localhost',
      '*.com',
      'x',
      'a b:',
      'x.org/path',
      'x.org:',
      '-x.org',
      'x.org:99999',
      'x.org:25',
      '[::1]:80',
    ]) {
      expect(checkAllow(`ok.org ${bad}`), bad).toBeDefined();
    }
    expect(checkAllow(Array.from({ length: 65 }, (_, n) => `x${n}.org`).join(' '))).toContain('64');
  });
});
