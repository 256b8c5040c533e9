/** The terminal's font. A terminal measured before its font is there has cells of the wrong size. */

/** As the stylesheet names it (`--mono`). */
export const FONT_FAMILY =
  '"JetBrains Mono Variable", ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace';
/** How long a terminal waits for its font, ms. */
const FONT_PATIENCE_MS = 1_500;

/** Resolves when the font's regular and bold are there, or when waiting longer would be worse. */
export async function fontReady({
  fontFamily,
  fontSize,
}: {
  fontFamily: string;
  fontSize: number;
}): Promise<void> {
  const late = new Promise((resolve) => setTimeout(resolve, FONT_PATIENCE_MS));
  const faces = ['400', '700'].map((weight) =>
    document.fonts.load(`${weight} ${fontSize}px ${fontFamily}`),
  );
  await Promise.race([Promise.allSettled(faces), late]);
}
