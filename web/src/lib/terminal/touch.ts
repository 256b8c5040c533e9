/**
 * Scrolling by touch, which xterm leaves to nobody: a finger that moves is told to the terminal as a wheel, so that scrollback,
 * programs with a mouse and programs on the alternate screen each do with it what they do with one.
 */

/** What a flick keeps of its speed from one frame to the next. */
const GLIDE = 0.94;
/** Pixels a frame below which it has come to rest. */
const REST = 0.4;
/** Pixels a finger may tremble before it is moving. */
const SLOP = 6;

/** Follows fingers on an element until the signal. */
export function scrollByTouch(element: HTMLElement, signal: AbortSignal): void {
  let last: { y: number; at: number } | null = null;
  let moving = false;
  /** Pixels a frame. */
  let speed = 0;
  let frame = 0;

  const stop = () => cancelAnimationFrame(frame);
  const wheel = (target: EventTarget | null, deltaY: number) => {
    if (deltaY !== 0)
      target?.dispatchEvent(new WheelEvent('wheel', { deltaY, bubbles: true, cancelable: true }));
  };
  const glide = (target: EventTarget | null) => {
    speed *= GLIDE;
    if (Math.abs(speed) < REST) return;
    wheel(target, speed);
    frame = requestAnimationFrame(() => glide(target));
  };

  const started = (event: TouchEvent) => {
    stop();
    speed = 0;
    moving = false;
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
    wheel(event.target, by);
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
