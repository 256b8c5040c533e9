/** A whole installation and machines of it: the real programs, each with its own directory and ports. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { children, commandLine, Process, until } from './processes.mjs';

export const ROOT = resolve(import.meta.dirname, '../../..');
export const OWNER = { email: 'owner@rexec.test', name: 'Owner', password: 'correct horse battery staple' };

/** Directory of the programs: named, or the newest that cargo made. */
export function programs() {
  const named = process.env.REXEC_BIN_DIR;
  if (named) return named;
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
  const dirs = existsSync(target) ? readdirSync(target).map((triple) => join(target, triple, 'release')) : [];
  const built = dirs.filter((dir) => existsSync(join(dir, 'rexec-control')) && existsSync(join(dir, 'rexec-agent')));
  const age = (dir) => statSync(join(dir, 'rexec-control')).mtimeMs;
  const [newest] = built.sort((a, b) => age(b) - age(a));
  if (!newest) throw new Error('not built: cargo build --release -p rexec-control -p rexec-agent');
  return newest;
}

/** A port below the range of outgoing connections, so that a server that was down finds it free again. */
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const isFree = await new Promise((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

/** What is not meant for the programs under test stays out of their environment. */
function environment(more) {
  const { DATABASE_URL, JWT_SECRET, NODE_OPTIONS, NODE_TEST_CONTEXT, ...rest } = process.env;
  return { ...rest, ...more };
}

export class Installation {
  machines = [];

  /** `host`: the address of the tunnel's port; `name`: the name that agents and browsers come to it by; `more`: further settings. */
  static async start({ owner = true, host = '127.0.0.1', name = host, more = {} } = {}) {
    const made = new Installation();
    [made.host, made.name, made.more] = [host, name, more];
    made.dir = mkdtempSync(join(tmpdir(), 'rexec-browser-'));
    made.programs = programs();
    [made.port, made.tunnelPort] = [await freePort(), await freePort()];
    made.origin = `http://localhost:${made.port}`;
    await made.startControl();
    if (owner) made.makeOwner();
    return made;
  }

  get env() {
    return environment({
      PORT: `${this.port}`,
      REXEC_DATA_DIR: join(this.dir, 'data'),
      REXEC_TUNNEL_ADDR: `${this.host}:${this.tunnelPort}`,
      REXEC_TUNNEL_PUBLIC: `${this.name}:${this.tunnelPort}`,
      REXEC_DOWNLOAD_DIR: this.programs,
      REXEC_LOG: 'info',
      ...this.more,
    });
  }

  get log() {
    return readFileSync(join(this.dir, 'control.log'), 'utf8');
  }

  async startControl() {
    const log = join(this.dir, 'control.log');
    this.control = new Process('rexec-control', join(this.programs, 'rexec-control'), ['serve'], { env: this.env, log });
    await until('a ready control', 20_000, async () => {
      if (!this.control.alive) throw new Error(`control ended:\n${this.control.said}`);
      return fetch(`${this.origin}/readyz`).then((answer) => answer.ok, () => false);
    });
  }

  makeOwner() {
    const file = join(this.dir, 'password');
    writeFileSync(file, OWNER.password, { mode: 0o600 });
    this.run(['owner', 'create', '--email', OWNER.email, '--name', OWNER.name, '--password-file', file]);
  }

  run(args) {
    return execFileSync(join(this.programs, 'rexec-control'), args, { env: this.env, encoding: 'utf8', stdio: 'pipe' });
  }

  joinToken() {
    const file = join(this.dir, `token-${Math.random().toString(36).slice(2)}`);
    this.run(['join-token', 'create', '--out', file]);
    return file;
  }

  /** A machine that is enrolled and online; in a network namespace, if one is given. */
  async machine(name, namespace) {
    const machine = new Machine(this, name, namespace);
    const server = namespace ? `http://${this.host}:${this.port}` : this.origin;
    machine.runAgent(['register', '--name', name, '--server', server, '--token-file', this.joinToken()]);
    machine.start();
    await machine.online();
    return machine;
  }

  async stop() {
    for (const machine of this.machines) await machine.stop();
    await this.control.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/**
 * The command with an empty home directory of its own: a login shell reads start-up files, and a test must not hang on those of the
 * person who runs it. Where that right is missing, the shells read what they find.
 */
function inEmptyHome(dir, command) {
  if (spawnSync('unshare', ['--mount', 'true']).status !== 0) return command;
  const home = join(dir, 'home');
  mkdirSync(home, { recursive: true });
  return ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" "$HOME" && exec "$@"', home, ...command];
}

export class Machine {
  constructor(installation, name, namespace) {
    this.namespace = namespace;
    this.installation = installation;
    this.name = name;
    this.dir = join(installation.dir, `agent-${name}`);
    mkdirSync(this.dir);
    installation.machines.push(this);
  }

  get env() {
    return environment({ REXEC_AGENT_DIR: this.dir, REXEC_LOG: 'info', LANG: 'C.UTF-8' });
  }

  get program() {
    return join(this.installation.programs, 'rexec-agent');
  }

  #command(command) {
    return this.namespace ? this.namespace.command(command) : command;
  }

  runAgent(args) {
    const [program, ...rest] = this.#command([this.program, ...args]);
    return execFileSync(program, rest, { env: this.env, encoding: 'utf8', stdio: 'pipe' });
  }

  /** Runs a command of the agent that waits for somebody. */
  begin(args) {
    this.waiting = new Process(`rexec-agent ${args[0]}`, this.program, args, { env: this.env, log: join(this.dir, 'begin.log') });
    return this.waiting;
  }

  get id() {
    return JSON.parse(readFileSync(join(this.dir, 'default/registration.json'), 'utf8')).machine;
  }

  start() {
    const [program, ...args] = this.#command(inEmptyHome(this.dir, [this.program, 'start']));
    this.agent = new Process(`rexec-agent ${this.name}`, program, args, { env: this.env, log: join(this.dir, 'agent.log') });
  }

  /** Waits until the agent itself says that it is online. */
  online() {
    return until(`${this.name} online`, 20_000, () => {
      try {
        return JSON.parse(this.runAgent(['status', '--json'])).online;
      } catch {
        return false;
      }
    });
  }

  uplink() {
    return until('an uplink', 5_000, () => children(this.agent.pid).find((pid) => commandLine(pid).includes('uplink')));
  }

  /** What the session host runs beside its uplink. */
  shells() {
    return children(this.agent.pid).filter((pid) => !commandLine(pid).includes('uplink'));
  }

  async stop() {
    await this.waiting?.stop();
    await this.agent?.stop();
  }
}
