/** The terminal's font. A terminal measured before its font is there has cells of the wrong size. */

/** As the stylesheet names it (`--mono`). */
export const FONT_FAMILY =
  '"JetBrains Mono Variable", ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace';
/** px. The WebGL renderer cuts cells to whole pixels: 13.5 makes 8.1, which loses little, where 13 makes 7.8 and loses a tenth. */
export const FONT_SIZE = 13.5;
/** How long a terminal waits for its font, ms. */
const FONT_PATIENCE_MS = 1_500;

/** Resolves when the font's regular and bold are there, or when waiting longer would be worse. */
export async function fontReady(): Promise<void> {
  const late = new Promise((resolve) => setTimeout(resolve, FONT_PATIENCE_MS));
  const faces = ['400', '700'].map((weight) =>
    document.fonts.load(`${weight} ${FONT_SIZE}px "JetBrains Mono Variable"`),
  );
  await Promise.race([Promise.allSettled(faces), late]);
}
