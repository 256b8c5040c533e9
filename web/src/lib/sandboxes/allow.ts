/** Where a restricted sandbox may go, as a person writes it: `pypi.org, *.debian.org:80`. Pure; control has the last word. */

/** A host and a port. */
export interface Target {
  host: string;
  port: number;
}

/** As many as control takes. */
const TARGETS_MAX = 64;
/** What is meant without a port: HTTPS. */
const PORT = 443;
const HOST = /^(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)+([a-z]([a-z0-9-]*[a-z0-9])?|\d{1,3})$/;
const MAIL_PORTS = [25, 465, 587];

/** The targets meant. */
export function parseAllow(text: string): Target[] {
  return words(text).map(targetOf);
}

/** What is wrong with a list, if anything is. */
export function checkAllow(text: string): string | undefined {
  const said = words(text);
  if (said.length === 0) return 'List at least one host, such as pypi.org';
  if (said.length > TARGETS_MAX) return `At most ${TARGETS_MAX} hosts`;
  for (const word of said) {
    const { host, port } = targetOf(word);
    if (!HOST.test(host))
      return `“${word}” is no host: write pypi.org, *.pypi.org or pypi.org:8080`;
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      return `“${word}”: a port is from 1 to 65535`;
    if (MAIL_PORTS.includes(port)) return `“${word}”: sandboxes send no mail`;
  }
  return undefined;
}

function words(text: string): string[] {
  return text.split(/[\s,;]+/).filter((word) => word !== '');
}

function targetOf(word: string): Target {
  const bare = word.replace(/^https?:\/\//, '').replace(/\/+$/, '');
  const plain = word.startsWith('http://') ? 80 : PORT;
  const at = bare.lastIndexOf(':');
  const host = (at < 0 ? bare : bare.slice(0, at)).toLowerCase();
  return { host, port: at < 0 ? plain : Number(bare.slice(at + 1) || 'none') };
}
