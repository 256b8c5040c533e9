/** What a choice means, in words and as a command of Docker's. Pure. */
import type { SandboxOptions } from '$lib/api/types';

type Size = SandboxOptions['sizes'][number];

/** `1 CPU · 1 GB`. */
export function sizeNote({ cpus_milli, memory_mb, pids }: Size): string {
  const cpus = cpus_milli / 1000;
  const memory = memory_mb >= 1024 ? `${memory_mb / 1024} GB` : `${memory_mb} MB`;
  return `${cpus} CPU${cpus === 1 ? '' : 's'} · ${memory} · ${pids} processes`;
}

/** About the same with Docker alone, for who wants to know what is asked for. */
export function dockerRun(
  image: string,
  size: Size | undefined,
  network: string,
  name: string,
): string {
  const parts = ['docker run -it --init'];
  if (name !== '') parts.push(`--name ${name}`);
  if (size) {
    parts.push(`--cpus ${size.cpus_milli / 1000} --memory ${size.memory_mb}m`);
    parts.push(`--pids-limit ${size.pids}`);
  }
  parts.push('--cap-drop ALL --security-opt no-new-privileges');
  if (network === 'none') parts.push('--network none');
  parts.push(`-v home:/home/user ${image}`);
  return parts.join(' \\\n  ');
}
