/** Paths of machines, and how what is at them is written for people. */
import type { Entry } from './messages';

/** The path of a name in a directory. */
export function join(directory: string, name: string): string {
  return directory === '/' ? `/${name}` : `${directory}/${name}`;
}

/** The directory a path is in; the root is in itself. */
export function parent(path: string): string {
  const at = path.lastIndexOf('/');
  return at <= 0 ? '/' : path.slice(0, at);
}

/** The last name of a path. */
export function base(path: string): string {
  return path === '/' ? '/' : path.slice(path.lastIndexOf('/') + 1);
}

/** A path as a person typed it: `~`, `.` and `..` and doubled slashes resolved, relative ones from `from`. */
export function tidy(typed: string, from: string, home: string): string {
  const text = typed.trim();
  const whole = text.startsWith('~')
    ? home + text.slice(1)
    : text.startsWith('/')
      ? text
      : join(from, text);
  const names: string[] = [];
  for (const name of whole.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return `/${names.join('/')}`;
}

/** The directories on the way to a path, the root first. */
export function crumbs(path: string): { name: string; path: string }[] {
  const names = path.split('/').filter((name) => name !== '');
  return [
    { name: '/', path: '/' },
    ...names.map((name, index) => ({ name, path: `/${names.slice(0, index + 1).join('/')}` })),
  ];
}

/** Why a name is none, or null. */
export function badName(name: string): string | null {
  if (name === '') return 'A name is needed';
  if (name === '.' || name === '..') return 'This name means a directory that is there already';
  if (name.includes('/')) return 'A name has no slash';
  if (new TextEncoder().encode(name).length > 255) return 'A name has at most 255 bytes';
  return null;
}

/** `rwxr-xr-x`, with `s` and `t` where they are set. */
export function modeText(mode: number): string {
  const letters = Array.from('rwxrwxrwx', (letter, bit) => (mode & (0o400 >> bit) ? letter : '-'));
  const special = [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ] as const;
  for (const [bit, at, letter] of special) {
    if (mode & bit) letters[at] = letters[at] === 'x' ? letter : letter.toUpperCase();
  }
  return letters.join('');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.4 MiB`. */
export function sizeText(bytes: number): string {
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Whether it opens as a directory. */
export function isFolder({ kind, leadsTo }: Entry): boolean {
  return kind === 'directory' || leadsTo === 'directory';
}

/** Whether it has bytes that can be had. */
export function isFile({ kind, leadsTo }: Entry): boolean {
  return kind === 'file' || leadsTo === 'file';
}

/** A name that is not taken: `notes (2).txt`. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  if (!taken.has(name)) return name;
  const dot = name.lastIndexOf('.');
  const [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ''];
  for (let number = 2; ; number += 1) {
    const free = `${stem} (${number})${end}`;
    if (!taken.has(free)) return free;
  }
}
