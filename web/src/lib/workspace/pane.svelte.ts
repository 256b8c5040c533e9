/** What a tab's terminal shows beside the terminal itself: finding, questions about pastes and links. */

import { settings } from '$lib/state/settings.svelte';
import { toasts } from '$lib/state/toasts.svelte';
import { Copier } from '$lib/ui/copy.svelte';
import type { ViewerEvent } from '../protocol/phase';
import { ring } from '../terminal/bell';
import type { Held } from '../terminal/keyboard';
import { openLink } from '../terminal/links';
import type { Paste } from '../terminal/paste';
import { Screen, type Search } from '../terminal/screen';
import type { Cells } from '../terminal/size';
import type { Colours } from '../terminal/theme';
import { isPasteKey } from './keys';
import type { SessionTab, Shown } from './tab.svelte';

/** One tab's terminal on the page. */
export class Pane implements Shown {
  readonly screen: Screen;
  readonly tab: SessionTab;
  finding = $state(false);
  /** What was found: which match is shown, from 0, and how many there are. */
  found: { at: number; count: number } = $state.raw({ at: -1, count: 0 });
  /** A paste that waits for consent. */
  paste: Paste | null = $state.raw(null);
  /** Where the link under the pointer leads. */
  link: string | null = $state(null);
  /** A link that waits for consent. */
  askedLink: string | null = $state(null);
  /** A text that a program would put into the clipboard, and that waits for consent. */
  offer: string | null = $state.raw(null);
  /** Modifiers of the key deck that wait for a key. */
  held: Held = $state.raw({ ctrl: false, alt: false });
  /** Counts the rings of the bell that are to be seen. */
  rings = $state(0);
  /** The terminal's size. */
  cells: Cells | null = $state.raw(null);
  readonly #copier = new Copier();
  /** Programs of this session may copy. */
  #mayCopy = false;
  /** The paste that is being asked about is to be run. */
  #enters = false;

  constructor(tab: SessionTab, colours: Colours) {
    this.tab = tab;
    this.screen = new Screen(
      {
        typed: (bytes) => tab.type(bytes),
        parsed: (generation, offset) => tab.link?.parsed(generation, offset),
        room: (cells) => tab.setRoom(cells),
        resized: (cells) => (this.cells = cells),
        askPaste: (paste) => (this.paste = paste),
        overLink: (address) => (this.link = address),
        askLink: (address) => (this.askedLink = address),
        found: (at, count) => (this.found = { at, count }),
        settings: () => settings.value,
        selected: (text) => settings.value.copyOnSelect && void this.#copier.copy(text),
        offered: (text) => this.#offered(text),
        bell: () => this.#rang(),
        cwd: (path) => tab.moved(path),
        finished: (code, seconds) => tab.finished(code, seconds),
        isBrowserKey: isPasteKey,
      },
      colours,
    );
  }

  /** Puts it on the page. */
  open(element: HTMLElement): void {
    this.screen.keyboard.released = () => (this.held = { ctrl: false, alt: false });
    this.screen.open(element);
    this.tab.attachScreen(this);
  }

  take(event: ViewerEvent): void {
    this.screen.take(event);
  }

  text(): string {
    return this.screen.text();
  }

  focus(): void {
    this.screen.focus();
  }

  openFind(): void {
    this.finding = true;
  }

  /** Copies the selection. */
  copy(): void {
    const text = this.screen.selection();
    if (text !== '') void this.#copier.copy(text).then(() => this.focus());
  }

  /** Pastes a text, after a question where one is due; with `enter`, runs it once it is pasted. */
  insert(text: string, enter: boolean): void {
    this.#enters = enter;
    this.screen.paste(text);
    if (!this.paste) this.#enter();
  }

  /** Types as a key would. */
  press(text: string): void {
    this.focus();
    this.screen.press(text);
  }

  /** A key of the deck. */
  pressKey(key: string): void {
    this.screen.keyboard.press(key);
  }

  /** A modifier of the deck, on or off. */
  hold(which: keyof Held): void {
    this.held = { ...this.held, [which]: !this.held[which] };
    this.screen.keyboard.hold(this.held);
  }

  /** Pastes what is in the clipboard. */
  async pasteClipboard(): Promise<void> {
    try {
      this.screen.paste(await navigator.clipboard.readText());
    } catch {
      toasts.show({ kind: 'info', text: 'This browser does not let a page read the clipboard' });
    }
  }

  /** Looks for something; see {@link Screen.find}. */
  find(search: Search, back: boolean, incremental = false): void {
    if (search.text === '') this.#nothingFound();
    else if (!this.screen.find(search, back, incremental)) this.found = { at: -1, count: 0 };
  }

  closeFind(): void {
    this.finding = false;
    this.#nothingFound();
    this.focus();
  }

  /** Answers the question about a paste. */
  answerPaste(yes: boolean): void {
    const paste = this.paste;
    this.paste = null;
    if (yes && paste) this.screen.pasteNow(paste);
    else this.focus();
    if (yes) this.#enter();
    this.#enters = false;
  }

  /** Answers the question about a link. */
  answerLink(yes: boolean): void {
    const address = this.askedLink;
    this.askedLink = null;
    if (yes && address) openLink(address);
    this.focus();
  }

  /** Answers a program that would copy: this once, for as long as this session is open here, or not. */
  answerOffer(answer: 'once' | 'always' | 'no'): void {
    const text = this.offer;
    this.offer = null;
    this.#mayCopy ||= answer === 'always';
    if (answer !== 'no' && text !== null) this.#copyOffered(text);
    this.focus();
  }

  /** Scrolls to the prompt before or after. */
  jump(back: boolean): void {
    this.screen.jump(back);
  }

  dispose(): void {
    this.screen.dispose();
  }

  #enter(): void {
    if (this.#enters) this.screen.press('\r');
    this.#enters = false;
  }

  /** Only of the terminal that is looked at: another one could not be told from it. */
  #offered(text: string): void {
    if (settings.value.programCopies === 'never' || !this.tab.focused || !document.hasFocus())
      return;
    if (this.#mayCopy) this.#copyOffered(text);
    else this.offer = text;
  }

  #copyOffered(text: string): void {
    void this.#copier.copy(text);
    toasts.show({ kind: 'info', text: `${this.tab.label} copied ${text.length} characters` });
  }

  #rang(): void {
    const { bell } = settings.value;
    if (bell === 'flash') this.rings += 1;
    if (bell === 'sound') ring();
    this.tab.rang();
  }

  #nothingFound(): void {
    this.screen.endSearch();
    this.found = { at: -1, count: 0 };
  }
}
