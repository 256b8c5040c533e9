/** What of a terminal's input is a person's, and may go to several sessions. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence begins with one
const REPORT = /^\u001b\[(?:[IO]$|<[\d;]+[Mm]|M)/;

/** Whether input is the terminal's own report of the mouse or of focus: true of its own pane only. */
export function isReport(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1b && REPORT.test(String.fromCharCode(...bytes.subarray(0, 32)));
}
