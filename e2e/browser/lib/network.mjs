/** A network of its own for an agent or a browser: a namespace, joined to the host by one cable that can be cut. As `e2e/src/netlab.rs`. */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** Nobody is told, as when a cable is cut far away. */
const CUT = `add table inet cut;
add chain inet cut in { type filter hook input priority 0; policy drop; };
add chain inet cut out { type filter hook output priority 0; policy drop; }`;

function run(program, ...args) {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8', env: { PATH } });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error ?? stderr.trim()}`);
}

/** Why no namespace can be made here; false where one can. In CI nothing is skipped. */
export function missingNamespaces() {
  if (process.env.CI || spawnSync('unshare', ['--net', 'true']).status === 0) return false;
  return 'needs the right to make network namespaces';
}

export class Namespace {
  #scripts;

  constructor() {
    // From 198.18.0.0/15, which RFC 2544 keeps for testing networks.
    this.name = `rexec${randomInt(0x10000).toString(16).padStart(4, '0')}`;
    this.host = `198.18.${randomInt(256)}.1`;
    const [outer, inner] = [`${this.name}o`, `${this.name}i`];
    run('ip', 'netns', 'add', this.name);
    run('ip', 'link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', this.name);
    run('ip', 'address', 'add', `${this.host}/24`, 'dev', outer);
    run('ip', 'link', 'set', outer, 'up');
    this.#inside('ip', 'link', 'set', inner, 'up');
    this.moveTo(2);
    this.#inside('ip', 'link', 'set', 'lo', 'up');
  }

  /** A command as it runs in here. */
  command(command) {
    return ['ip', 'netns', 'exec', this.name, ...command];
  }

  /** A program that runs the command in here, for whoever takes a path alone. */
  script(program) {
    this.#scripts ??= mkdtempSync(join(tmpdir(), 'rexec-netns-'));
    const path = join(this.#scripts, 'run');
    writeFileSync(path, `#!/bin/sh\nexec ${this.command([program]).join(' ')} "$@"\n`, { mode: 0o755 });
    return path;
  }

  /** Another address instead of the one it had. */
  moveTo(last) {
    const inner = `${this.name}i`;
    this.#inside('ip', 'address', 'flush', 'dev', inner);
    this.#inside('ip', 'address', 'add', `${this.host.replace(/1$/, last)}/24`, 'dev', inner);
  }

  /** Drops every packet from now on. */
  cut() {
    this.#inside('nft', CUT);
  }

  /** Lets packets pass again. */
  mend() {
    this.#inside('nft', 'delete table inet cut');
  }

  /** Takes it away; the cable goes with either of its ends. */
  remove() {
    if (this.#scripts) rmSync(this.#scripts, { recursive: true, force: true });
    spawnSync('ip', ['link', 'delete', `${this.name}o`], { env: { PATH } });
    spawnSync('ip', ['netns', 'delete', this.name], { env: { PATH } });
  }

  #inside(...command) {
    run(...this.command(command));
  }
}
