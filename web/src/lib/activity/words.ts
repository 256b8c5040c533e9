/** What happened, in words. Pure. */
import type { Activity } from '$lib/api/types';
import type { IconName } from '$lib/ui/icons';

/** One line of the feed. */
export interface Line {
  readonly icon: IconName;
  /** Who. */
  readonly who: string;
  /** Did what to what: `removed`, `workbench`. */
  readonly did: string;
  readonly what: string;
}

const DEEDS: Readonly<Record<string, readonly [IconName, string, string]>> = {
  'files.open': ['folder', 'opened the files of', 'a machine'],
  'join_token.create': ['key', 'made', 'a join token'],
  'join_token.delete': ['key', 'deleted', 'a join token'],
  'login.create': ['user', 'signed in', ''],
  'login.end': ['signout', 'ended', 'a login'],
  'machine.change': ['edit', 'changed', 'a machine'],
  'machine.enrol': ['terminal', 'joined', ''],
  'machine.remove': ['trash', 'removed', 'a machine'],
  'machine.unregister': ['trash', 'left', ''],
  'person.create': ['user', 'made', 'an account'],
  'preview.close': ['window', 'closed a port of', 'a machine'],
  'preview.enter': ['window', 'came to a port of', 'a machine'],
  'preview.open': ['window', 'opened a port of', 'a machine'],
  'preview.share': ['link', 'shared a port of', 'a machine'],
  'preview.unshare': ['link', 'withdrew the link to a port of', 'a machine'],
  'sandbox.create': ['box', 'made', 'a sandbox'],
  'sandbox.delete': ['trash', 'deleted', 'a sandbox'],
  'sandbox.fork': ['box', 'forked', 'a sandbox'],
  'sandbox.rename': ['edit', 'renamed', 'a sandbox'],
  'sandbox.resize': ['box', 'resized', 'a sandbox'],
  'sandbox.restart': ['box', 'restarted', 'a sandbox'],
  'sandbox.start': ['play', 'started', 'a sandbox'],
  'sandbox.stop': ['pause', 'stopped', 'a sandbox'],
  'session.attach': ['terminal', 'opened a terminal on', 'a machine'],
  'snapshot.create': ['copy', 'took snapshot', ''],
  'snapshot.delete': ['trash', 'deleted snapshot', ''],
  'snapshot.update': ['edit', 'changed snapshot', ''],
  'snippet.create': ['snippet', 'wrote snippet', ''],
  'snippet.delete': ['snippet', 'deleted snippet', ''],
  'snippet.import': ['snippet', 'imported', 'snippets'],
  'snippet.update': ['snippet', 'changed snippet', ''],
  'tunnel.refuse': ['shield', 'was refused', ''],
  'volume.delete': ['trash', 'deleted', 'a volume'],
};

/** Who is meant where nobody has a name. */
const UNNAMED: Readonly<Record<string, string>> = {
  agent: 'A machine',
  control: 'Rexec',
  operator: 'The operator',
  person: 'Somebody',
};

/** An entry as it is read. One that this page does not know yet is told by its own name. */
export function lineOf(entry: Activity): Line {
  const { action, actor, actor_name, own, target_name, refused } = entry;
  const [icon, did, what] = DEEDS[action] ?? ['pulse', action.replaceAll(/[._]/g, ' '), ''];
  const who = own ? 'You' : actor_name || UNNAMED[actor] || actor;
  // Whoever acts on itself is named once.
  const named = target_name && target_name !== actor_name ? target_name : what;
  return { icon, who, did: refused ? `was refused: ${did}` : did, what: named };
}
