/** How a session's terminal sits in the space a page has for it. */

/** Pixels. */
export interface Box {
  readonly width: number;
  readonly height: number;
}

/** Cells. */
export interface Cells {
  readonly cols: number;
  readonly rows: number;
}

/** Smallest font that can still be told apart, px. */
const FONT_MIN = 6;
/** What any shell can work with. */
const CELLS_MIN: Cells = { cols: 20, rows: 5 };
/** What the session host bears. */
const CELLS_MAX: Cells = { cols: 1_000, rows: 500 };

/** A size no shell is too small for and no host too large. */
export function boundCells({ cols, rows }: Cells): Cells {
  return {
    cols: clamp(cols, CELLS_MIN.cols, CELLS_MAX.cols),
    rows: clamp(rows, CELLS_MIN.rows, CELLS_MAX.rows),
  };
}

/** The room in a space, from the room there was in another. */
export function scaledRoom(room: Cells, before: Box, now: Box): Cells {
  return boundCells({
    cols: Math.floor((room.cols * now.width) / before.width),
    rows: Math.floor((room.rows * now.height) / before.height),
  });
}

/** The largest font, at most `font`, at which `cells` fit into a space where `font` makes `room` cells. */
export function fontFor(cells: Cells, room: Cells, font: number): number {
  const scale = Math.min(1, room.cols / cells.cols, room.rows / cells.rows);
  return Math.max(FONT_MIN, Math.floor(font * scale * 2) / 2);
}

/** Whether two sizes are the same. */
export function sameCells(a: Cells, b: Cells): boolean {
  return a.cols === b.cols && a.rows === b.rows;
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}
