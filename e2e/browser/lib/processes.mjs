/** Processes under test: started here, ended here by their own id, never by a name. */
import { spawn } from 'node:child_process';
import { createWriteStream, readdirSync, readFileSync } from 'node:fs';

/** Looks until `look` gives something, or throws what `what` names. */
export async function until(what, deadlineMs, look) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A child whose words go into a file and can be waited for. */
export class Process {
  #said = '';

  constructor(name, program, args, { env, log, cwd, group = false }) {
    this.name = name;
    this.child = spawn(program, args, { env, cwd, detached: group, stdio: ['ignore', 'pipe', 'pipe'] });
    this.group = group;
    const file = createWriteStream(log, { flags: 'a' });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (chunk) => {
        this.#said += chunk;
        file.write(chunk);
      });
    }
    this.ended = new Promise((resolve) => this.child.once('close', (code, signal) => resolve({ code, signal })));
    this.child.once('error', (error) => {
      this.#said += error;
    });
  }

  get pid() {
    return this.child.pid;
  }

  get said() {
    return this.#said;
  }

  get alive() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits for a line; returns the match. */
  async says(pattern, deadlineMs = 30_000) {
    return until(`${this.name} to say ${pattern}`, deadlineMs, () => {
      const match = pattern.exec(this.#said);
      if (!match && !this.alive) throw new Error(`${this.name} ended:\n${this.#said}`);
      return match;
    });
  }

  /** As Ctrl-C in its terminal: the whole group gets the signal. */
  interrupt() {
    process.kill(this.group ? -this.pid : this.pid, 'SIGINT');
    return this.ended;
  }

  async kill9() {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async stop() {
    if (!this.alive) return;
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 15_000);
    await this.ended;
    clearTimeout(killer);
  }
}

/** Parent of a process, from /proc/PID/stat; 0 when it is gone or a zombie. */
function parentOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, parent] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? 0 : Number(parent);
  } catch {
    return 0;
  }
}

export const isAlive = (pid) => parentOf(pid) !== 0;

export function children(parent) {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return all.map(Number).filter((pid) => parentOf(pid) === parent);
}

/** A process and all that descend from it. */
export function family(root) {
  const found = [root];
  for (const pid of found) found.push(...children(pid));
  return found;
}

export const commandLine = (pid) => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
};
