/** What a tab's terminal shows beside the terminal itself: finding, questions about pastes and links. */

import { echo } from '$lib/state/echo.svelte';
import { Copier } from '$lib/ui/copy.svelte';
import type { ViewerEvent } from '../protocol/phase';
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
  /** The terminal's size. */
  cells: Cells | null = $state.raw(null);
  readonly #copier = new Copier();
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
        echoChoice: () => echo.choice,
        isBrowserKey: isPasteKey,
      },
      colours,
    );
  }

  /** Puts it on the page. */
  open(element: HTMLElement): void {
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

  dispose(): void {
    this.screen.dispose();
  }

  #enter(): void {
    if (this.#enters) this.screen.press('\r');
    this.#enters = false;
  }

  #nothingFound(): void {
    this.screen.endSearch();
    this.found = { at: -1, count: 0 };
  }
}
