/** What a drop brings, taken while it may be: the list is gone after the first wait. */

/** A directory or a file; a file alone where the browser knows no directories. */
export type Dropped = FileSystemEntry | File;

export function droppedEntries(data: DataTransfer | null): Dropped[] {
  const items = Array.from(data?.items ?? []).filter(({ kind }) => kind === 'file');
  const all = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  return all.filter((entry) => entry !== null);
}

/** Whether files are being dragged. */
export function bringsFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes('Files') ?? false;
}
