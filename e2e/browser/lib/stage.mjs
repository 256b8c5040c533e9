/** What most files of tests need: an installation, a machine in it, a person who is signed in, a directory for files. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launch, openTerminal, pageOf, person, signIn } from './browser.mjs';
import { Installation } from './installation.mjs';
import { until } from './processes.mjs';

export class Stage {
  static async set() {
    const stage = new Stage();
    stage.browser = await launch();
    stage.dir = mkdtempSync(join(tmpdir(), 'rexec-stage-'));
    stage.installation = await Installation.start();
    stage.origin = stage.installation.origin;
    stage.machine = await stage.installation.machine('workbench');
    stage.context = await stage.newPerson();
    return stage;
  }

  /** Another browser profile, signed in. */
  async newPerson(options) {
    const context = await person(this.browser, options);
    const page = await pageOf(context);
    await signIn(page, this.origin);
    await page.close();
    return context;
  }

  /** A page with a terminal on the machine. */
  async terminal(context = this.context, machine = this.machine) {
    const page = await pageOf(context);
    await openTerminal(page, this.origin, machine.id);
    return page;
  }

  async leave(...pages) {
    for (const page of pages) {
      assert.deepEqual(page.complaints, [], 'the page complained');
      await page.close();
    }
  }

  /** Whatever a test left behind: the next one comes to a session of its own. */
  async endShells() {
    for (const machine of this.installation.machines) {
      for (const pid of machine.shells()) process.kill(pid, 'SIGHUP');
      await until('an end of all shells', 5_000, () => machine.shells().length === 0);
    }
  }

  async strike() {
    await this.browser.close();
    await this.installation.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
