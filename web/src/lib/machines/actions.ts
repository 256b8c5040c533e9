/** What a person can do to a machine from its row. */
export type MachineAction =
  | 'rename'
  | 'tag'
  | 'remove'
  | 'copy-id'
  | 'usage'
  | 'ports'
  /** The last ones to a sandbox alone. */
  | 'start'
  | 'stop'
  | 'restart'
  | 'snapshot'
  | 'fork';
