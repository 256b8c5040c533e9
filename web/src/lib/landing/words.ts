/** What the landing page says. Only what this version does. */
import type { IconName } from '$lib/ui/icons';

export interface Feature {
  readonly icon: IconName;
  readonly title: string;
  readonly text: string;
}

export const FEATURES: readonly Feature[] = [
  {
    icon: 'pulse',
    title: 'The shell outlives everything',
    text: 'Close the lid, change networks, kill the server, upgrade the agent. It goes on, and you come back to the exact byte.',
  },
  {
    icon: 'shield',
    title: 'No port open, nobody trusted',
    text: 'Machines dial out. Each checks every permission itself, against a key it pinned when it joined.',
  },
  {
    icon: 'box',
    title: 'Sandboxes that are just machines',
    text: 'A container of your own in a few seconds, with limits, snapshots and a network that reaches what you allow.',
  },
  {
    icon: 'beside',
    title: 'A workspace, not a web page',
    text: 'Tabs and splits over any machines, broadcast typing, search, themes. Your layout follows you to the next device.',
  },
  {
    icon: 'keyboard',
    title: 'Made for the keyboard',
    text: 'One palette for machines, sessions and snippets. Typing appears at once, on the other side of the world as well.',
  },
  {
    icon: 'devices',
    title: 'On the phone, too',
    text: 'The same session with Esc, Ctrl and arrows under your thumb. QUIC where it passes, TCP where it does not.',
  },
  {
    icon: 'terminal',
    title: 'A desk for AI assistants',
    text: 'Claude Code, Codex and the like keep working in a session on your machine while your laptop is closed.',
  },
  {
    icon: 'sessions',
    title: 'A cell for AI assistants',
    text: 'Give them a sandbox instead of your laptop: its files, its limits, and no network but what you list.',
  },
];

export interface Question {
  readonly ask: string;
  readonly answer: string;
}

export const QUESTIONS: readonly Question[] = [
  {
    ask: 'Is Rexec a virtual machine?',
    answer:
      'No. It is a terminal on machines that exist, yours or containers that it makes. Nothing is emulated, and no hypervisor is involved.',
  },
  {
    ask: 'What is the difference between a sandbox and a machine with the agent?',
    answer:
      'A sandbox is a container that Rexec makes and removes, with its own disk, limits and network. The agent is a small program on a machine that you already have, with all that this machine has. In the list, and in a terminal, they are the same.',
  },
  {
    ask: 'Can I reach my own laptop or server?',
    answer:
      'Yes, that is what the agent is for. Three commands, no open port, no VPN: the machine dials out and appears in your list.',
  },
  {
    ask: 'Why not simply SSH?',
    answer:
      'SSH needs a port that can be reached and a connection that holds. Here neither is needed: behind NAT, on a train, after the server was restarted, the shell is where you left it, in a browser, without a key file on the device.',
  },
  {
    ask: 'What happens when my connection drops?',
    answer:
      'The shell does not notice. The page says so, keeps what you type and sends it once; when the network is back it goes on at the byte where it stopped, in well under a second.',
  },
  {
    ask: 'Is it secure?',
    answer:
      'Every hop is TLS 1.3, and a machine accepts only permissions signed for it, for this person, for at most a minute, bound to the key of this very browser. Signing out or removing a device cuts its terminals within two seconds. What passes is not yet encrypted end to end, so run the server yourself or trust whoever does.',
  },
  {
    ask: 'Which systems are supported?',
    answer:
      'The agent runs on Linux, on x86-64 and ARM. Sandboxes run on a Linux server with Docker Engine. The terminal runs in any browser of the last two years.',
  },
];

/** An assistant that works in a terminal, and how it is started there. */
export interface Assistant {
  readonly name: string;
  readonly maker: string;
  readonly commands: readonly { readonly command: string; readonly says: string }[];
}

// Each as its maker's own documentation gives it.
export const ASSISTANTS: readonly Assistant[] = [
  {
    name: 'Claude Code',
    maker: 'Anthropic',
    commands: [
      { command: 'npm install -g @anthropic-ai/claude-code', says: 'installs it' },
      { command: 'claude', says: 'starts it in this directory' },
    ],
  },
  {
    name: 'Codex',
    maker: 'OpenAI',
    commands: [
      { command: 'npm install -g @openai/codex', says: 'installs it' },
      { command: 'codex', says: 'starts it in this directory' },
    ],
  },
  {
    name: 'Cursor',
    maker: 'Anysphere',
    commands: [
      { command: 'curl https://cursor.com/install -fsS | bash', says: 'installs its agent' },
      { command: 'cursor-agent', says: 'starts it in this directory' },
    ],
  },
  {
    name: 'Gemini CLI',
    maker: 'Google',
    commands: [
      { command: 'npm install -g @google/gemini-cli', says: 'installs it' },
      { command: 'gemini', says: 'starts it in this directory' },
    ],
  },
  {
    name: 'opencode',
    maker: 'SST',
    commands: [
      { command: 'npm install -g opencode-ai', says: 'installs it' },
      { command: 'opencode', says: 'starts it in this directory' },
    ],
  },
  {
    name: 'Aider',
    maker: 'Paul Gauthier',
    commands: [
      { command: 'python -m pip install aider-install && aider-install', says: 'installs it' },
      { command: 'aider', says: 'starts it in this directory' },
    ],
  },
];
