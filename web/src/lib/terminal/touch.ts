/**
 * Scrolling by touch, which xterm leaves to the page: a finger moves the scrollback; to a program with a mouse or on the
 * alternate screen it is a wheel.
 */
import type { Terminal } from '@xterm/xterm';

/** What a flick keeps of its speed from one frame to the next. */
const GLIDE = 0.94;
/** Pixels a frame below which it has come to rest. */
const REST = 0.4;
/** Pixels a finger may tremble before it is moving. */
const SLOP = 6;

/** Follows fingers on the element a terminal is in, until the signal. */
export function scrollByTouch(terminal: Terminal, element: HTMLElement, signal: AbortSignal): void {
  /** What does not make a line yet, px. */
  let rest = 0;
  let last: { y: number; at: number } | null = null;
  let moving = false;
  /** Pixels a frame. */
  let speed = 0;
  let frame = 0;

  const stop = () => cancelAnimationFrame(frame);
  const move = (target: EventTarget | null, by: number) => {
    const row = element.clientHeight / terminal.rows;
    const lines = Math.trunc((rest + by) / row);
    rest += by - lines * row;
    if (lines === 0) return;
    const own =
      terminal.modes.mouseTrackingMode !== 'none' || terminal.buffer.active.type === 'alternate';
    if (!own) return terminal.scrollLines(lines);
    const deltaMode = WheelEvent.DOM_DELTA_LINE;
    target?.dispatchEvent(new WheelEvent('wheel', { deltaY: lines, deltaMode, bubbles: true }));
  };
  const glide = (target: EventTarget | null) => {
    speed *= GLIDE;
    if (Math.abs(speed) < REST) return;
    move(target, speed);
    frame = requestAnimationFrame(() => glide(target));
  };

  const started = (event: TouchEvent) => {
    stop();
    speed = 0;
    moving = false;
    rest = 0;
    const [finger] = event.touches;
    last = event.touches.length === 1 && finger ? { y: finger.clientY, at: event.timeStamp } : null;
  };
  const moved = (event: TouchEvent) => {
    const [finger] = event.touches;
    if (!last || !finger) return;
    const by = last.y - finger.clientY;
    if (!moving && Math.abs(by) < SLOP) return;
    moving = true;
    event.preventDefault();
    move(event.target, by);
    speed = (by / Math.max(1, event.timeStamp - last.at)) * 16;
    last = { y: finger.clientY, at: event.timeStamp };
  };
  const ended = (event: TouchEvent) => {
    if (moving) glide(event.target);
    last = null;
  };
  element.addEventListener('touchstart', started, { passive: true, signal });
  element.addEventListener('touchmove', moved, { passive: false, signal });
  element.addEventListener('touchend', ended, { passive: true, signal });
  element.addEventListener('touchcancel', ended, { passive: true, signal });
  signal.addEventListener('abort', stop);
}
