// @vitest-environment node
import { describe, expect, it } from 'vitest';
import { exported, imported } from './exchange';
import { filled, parametersOf } from './template';

describe('parameters', () => {
  it('are found once each, in order, with the first default', () => {
    expect(parametersOf('ssh {{user=root}}@{{host}} -p {{port=22}} # {{user}}')).toEqual([
      { name: 'user', fallback: 'root' },
      { name: 'host', fallback: '' },
      { name: 'port', fallback: '22' },
    ]);
    expect(parametersOf('{{a}} {{a=1}}')).toEqual([{ name: 'a', fallback: '1' }]);
  });

  it.each(['{{}}', '{{ 1x }}', '{x}', '{{a b}}', '$x', '{{x'])('%s is text', (body) => {
    expect(parametersOf(body)).toEqual([]);
    expect(filled(body, {})).toBe(body);
  });

  it('take values, keep defaults, and do not look into values', () => {
    const body = 'curl {{url}} -o {{file=out}}';
    expect(filled(body, { url: '{{file}}' })).toBe('curl {{file}} -o out');
    expect(filled(body, { url: '$&', file: '' })).toBe('curl $& -o ');
    expect(filled('{{constructor}}', {})).toBe('');
  });
});

describe('exchange', () => {
  const one = {
    id: '1',
    name: 'logs',
    description: 'What happens',
    body: 'journalctl -f\n',
    shared: true,
    changed_at: '2026-01-01T00:00:00Z',
  };

  it('what is exported can be imported', () => {
    const { name, description, body } = one;
    expect(imported(exported([one]))).toEqual([{ name, description, body }]);
  });

  it.each([
    ['{', 'not JSON'],
    ['[]', 'no list called'],
    ['{"format":"rexec-snippets/2","snippets":[]}', 'its format is rexec-snippets/2'],
    ['{"format":"rexec-snippets/1","snippets":[{"name":"a","body":1}]}', 'snippets[0].body'],
    ['{"format":"rexec-snippets/1","snippets":[3]}', 'snippets[0] is not'],
  ])('%s: %s', (text, says) => {
    expect(() => imported(text)).toThrow(says);
  });
});
