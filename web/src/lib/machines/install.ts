/** The commands that bring a machine into this installation, as the product text gives them. */

export interface InstallCommand {
  command: string;
  /** What it does, in a few words. */
  says: string;
}

/** For a person at the machine: `register` prints a link and waits until it is approved. */
export function interactiveCommands(publicUrl: string, name = 'my-laptop'): InstallCommand[] {
  return [
    { command: installer(publicUrl), says: 'installs the agent' },
    { command: `rexec-agent register --name "${name}"`, says: 'prints a link to approve here' },
    { command: 'rexec-agent start --daemon', says: 'dials out and stays connected' },
  ];
}

/** For scripts and images: the token comes from a file or from standard input, never from the command line. */
export function unattendedCommands(publicUrl: string, from: 'file' | 'stdin'): InstallCommand[] {
  const register = 'rexec-agent register --name "$(hostname)"';
  return [
    { command: installer(publicUrl), says: 'installs the agent' },
    from === 'file'
      ? {
          command: `${register} --token-file /run/secrets/rexec-join`,
          says: 'reads the token from a file',
        }
      : {
          command: `printenv REXEC_JOIN | ${register} --token-file -`,
          says: 'reads the token from standard input',
        },
    { command: 'rexec-agent start --daemon', says: 'dials out and stays connected' },
  ];
}

/** Several commands as one line, for a single paste. */
export function oneLine(commands: InstallCommand[]): string {
  return commands.map((each) => each.command).join(' && ');
}

function installer(publicUrl: string): string {
  return `curl -sSL ${publicUrl.replace(/\/+$/, '')}/install-agent.sh | bash`;
}
