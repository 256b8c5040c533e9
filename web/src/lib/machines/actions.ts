/** What a person can do to a machine from its row. */
export type MachineAction = 'rename' | 'tag' | 'remove' | 'copy-id';
