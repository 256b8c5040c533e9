import { describe, expect, test } from 'vitest';
import type { Machine, Sandbox } from '$lib/api/types';
import { dockerRun, sizeNote } from './preview';
import { menuOf, standingOf } from './standing';

const machine = { id: 'm', name: 'box', online: true } as Machine;

function sandbox(over: Partial<Sandbox>): Sandbox {
  return { id: 'm', desired: 'running', state: 'ready', steps: [], ...over } as Sandbox;
}

describe('what a row says', () => {
  test('a host is online or offline', () => {
    expect(standingOf(machine, undefined)).toEqual({ light: 'running', label: 'Online' });
    expect(standingOf({ ...machine, online: false }, undefined).label).toBe('Offline');
  });

  test('a sandbox on its way says where it is, and how much of it is done', () => {
    const pulling = sandbox({
      state: 'pulling',
      steps: [{ step: 'pulling', state: 'now', percent: 37 }],
    });
    expect(standingOf(machine, pulling)).toEqual({
      light: 'building',
      label: 'Fetching the image',
      note: 'Fetching the image 37 %…',
    });
  });

  test('a ready sandbox is a machine like any other', () => {
    expect(standingOf(machine, sandbox({})).note).toBeUndefined();
    expect(standingOf({ ...machine, online: false }, sandbox({})).light).toBe('sleeping');
  });

  test('one that failed says why', () => {
    const problem = {
      code: 'no_space',
      detail: 'the disk is full',
      hint: 'make room',
      step: 'pulling',
    } as const;
    const failed = sandbox({ state: 'failed', problem });
    expect(standingOf(machine, failed)).toEqual({
      light: 'error',
      label: 'Failed',
      note: 'the disk is full',
    });
  });
});

describe('what can be done', () => {
  const offered = (each: Sandbox | undefined) => menuOf(each, () => {}).map(({ label }) => label);

  test('each standing offers what leads out of it', () => {
    expect(offered(undefined)).toEqual([]);
    expect(offered(sandbox({}))).toEqual(['Stop', 'Restart']);
    expect(offered(sandbox({ desired: 'stopped', state: 'stopped' }))).toEqual(['Start']);
    expect(offered(sandbox({ state: 'failed' }))).toEqual(['Start']);
    expect(offered(sandbox({ desired: 'deleted', state: 'deleting' }))).toEqual([]);
  });
});

describe('what a choice means', () => {
  const size = { id: 'small', name: 'Small', cpus_milli: 1500, memory_mb: 512, pids: 256 };

  test('a size in words', () => {
    expect(sizeNote(size)).toBe('1.5 CPUs · 512 MB · 256 processes');
    expect(sizeNote({ ...size, cpus_milli: 1000, memory_mb: 2048 })).toBe(
      '1 CPU · 2 GB · 256 processes',
    );
  });

  test('the command of Docker follows the form', () => {
    const command = dockerRun('debian:12', size, 'none', 'box');
    for (const part of ['--name box', '--cpus 1.5 --memory 512m', '--network none', 'debian:12'])
      expect(command).toContain(part);
    expect(dockerRun('debian:12', size, 'open', '')).not.toMatch(/--name|--network/);
  });
});
