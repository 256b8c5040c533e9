/** The bell as a sound. */

/** Hz and seconds: short enough not to startle. */
const PITCH = 660;
const LENGTH = 0.09;
const LOUDNESS = 0.08;

let context: AudioContext | null = null;

/** Rings once. Browsers keep a page silent until it was clicked or typed into. */
export function ring(): void {
  try {
    context ??= new AudioContext();
    const [tone, volume] = [context.createOscillator(), context.createGain()];
    const { currentTime } = context;
    tone.frequency.value = PITCH;
    volume.gain.setValueAtTime(LOUDNESS, currentTime);
    volume.gain.exponentialRampToValueAtTime(0.001, currentTime + LENGTH);
    tone.connect(volume).connect(context.destination);
    tone.start();
    tone.stop(currentTime + LENGTH);
  } catch {
    // No sound here.
  }
}
