import { expect, it } from 'vitest';
import { placeOf } from './previews.svelte';

it('a preview is known by its address, and nothing else is one', () => {
  const name = '3000-0192f300000070008000000000000001.localhost';
  expect(placeOf(`http://${name}:8080/a?b#c`)).toEqual({
    machine: '0192f300-0000-7000-8000-000000000001',
    port: 3000,
    path: '/a?b#c',
  });
  for (const bad of [
    '',
    'x',
    'http://localhost/',
    `http://a.${name}/`,
    `http://${name.replace('3000', '70000')}/`,
    `http://${name.replace('3000', '0')}/`,
    `http://${name.replace('0192', 'xyz')}/`,
  ]) {
    expect(placeOf(bad)).toBeNull();
  }
});
