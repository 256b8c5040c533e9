/** Does what a transfer is to do, through as many connections as it takes. */
import type { Transfer } from '$lib/state/transfers.svelte';
import { Backoff } from '../protocol/backoff';
import { Fetch } from './fetch';
import { filesOf } from './machine';
import { base } from './path';
import { sendFile } from './send';
import { FilesError, FilesStream } from './stream';

/** Runs it to its end, whatever that is: nothing is thrown. */
export async function run(transfer: Transfer): Promise<void> {
  const { job, signal } = transfer;
  const attempt = job.what === 'upload' ? uploadOf(transfer) : downloadOf(transfer);
  const backoff = new Backoff(Math.random);
  for (;;) {
    try {
      await attempt();
      if (transfer.state !== 'cancelled') transfer.state = 'done';
      return;
    } catch (thrown) {
      if (signal.aborted) break;
      const error = asFilesError(thrown);
      transfer.note = error.message;
      if (!error.lost) {
        transfer.state = 'failed';
        break;
      }
      transfer.state = 'retrying';
      await pause(backoff.failed('backoff', 0).at, signal);
      if (signal.aborted) break;
    }
  }
  if (job.what === 'download') await job.sink.abort().catch(() => {});
}

/** Every item in turn on one stream; those that are done are not done again. */
function uploadOf(transfer: Transfer): () => Promise<void> {
  const { job, signal } = transfer;
  if (job.what !== 'upload') throw new TypeError('no upload');
  let [next, before] = [0, 0];
  return async () => {
    const files = filesOf(job.machine);
    const stream = await FilesStream.open(job.machine, signal);
    try {
      for (; next < job.items.length; next += 1) {
        const item = job.items[next];
        if (!item) break;
        signal.throwIfAborted();
        if (item.source === null) {
          await files.makeDirectory(item.path, true);
          continue;
        }
        await sendFile(
          stream,
          item.path,
          item.source,
          { when: job.clash },
          (done) => goesOn(transfer, before + done),
          signal,
        );
        before += item.source.size;
        goesOn(transfer, before);
      }
    } finally {
      stream.close();
    }
  };
}

function downloadOf(transfer: Transfer): () => Promise<void> {
  const { job, signal } = transfer;
  if (job.what !== 'download') throw new TypeError('no download');
  const fetch = new Fetch(job.path, job.archive, job.sink);
  return async () => {
    const stream = await FilesStream.open(job.machine, signal);
    try {
      const lacking = await fetch.run(stream, (done, size) => {
        transfer.size = size;
        goesOn(transfer, done);
      });
      await job.sink.close(job.archive ? `${base(job.path)}.tar` : base(job.path));
      if (lacking.length > 0) transfer.note = `It lacks ${lacking.join(', ')}: not readable`;
    } finally {
      stream.close();
    }
  };
}

function goesOn(transfer: Transfer, done: number): void {
  if (transfer.over) return;
  transfer.done = done;
  transfer.state = 'running';
  transfer.note = null;
}

function asFilesError(thrown: unknown): FilesError {
  if (thrown instanceof FilesError) return thrown;
  const message = thrown instanceof Error ? thrown.message : 'it failed';
  return new FilesError('io', message, false);
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
