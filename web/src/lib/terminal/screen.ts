/**
 * One terminal on the page: xterm.js with its add-ons, fed by a viewer's events, saying what is typed,
 * what has been parsed and how many cells there is room for. It knows nothing of transports or tabs.
 */
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { Unicode11Addon } from '@xterm/addon-unicode11';
import { WebLinksAddon } from '@xterm/addon-web-links';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import type { Settings } from '$lib/state/settings.svelte';
import { latin1, utf8 } from '../protocol/bytes';
import type { ViewerEvent } from '../protocol/phase';
import { watchOffers } from './clipboard';
import { PredictiveEcho } from './echo';
import { Feed } from './feed';
import { FocusReports } from './focus';
import { Keyboard } from './keyboard';
import { followable, followsLink, openLink } from './links';
import { lookOf } from './look';
import { needsConsent, type Paste, preparePaste } from './paste';
import { swallowQueries } from './queries';
import { Renderer } from './renderer';
import { Shell, type ShellReports } from './shell';
import { type Box, boundCells, type Cells, fontFor, scaledRoom } from './size';
import { bufferText } from './text';
import type { Colours, SearchColours } from './theme';
import { scrollByTouch } from './touch';

/** What a screen tells its owner. */
export interface ScreenReports extends ShellReports {
  /** Bytes typed or pasted. Returns the number of input after them; null: they were not accepted. */
  typed(bytes: Uint8Array): number | null;
  /** See {@link Feed}. */
  parsed(generation: number, offset: number): void;
  /** There is room for so many cells at the normal font. */
  room(cells: Cells): void;
  /** The terminal has this size. */
  resized(cells: Cells): void;
  /** A paste needs consent: call {@link Screen.pasteNow} to go on. */
  askPaste(paste: Paste): void;
  /** The pointer is over a link that leads here; null: no longer. */
  overLink(address: string | null): void;
  /** A link whose text may lie was clicked: ask, then open. */
  askLink(address: string): void;
  /** Search found so many, and stands at one of them; −1: too many to say. */
  found(at: number, count: number): void;
  /** Something was selected with the pointer. */
  selected(text: string): void;
  /** A program offers a text for the clipboard; see `clipboard.ts`. */
  offered(text: string): void;
  /** The bell rang. */
  bell(): void;
  /** What the person has set. */
  settings(): Settings;
  /** Whether a key press is to be left to the browser. The page's own never come here. */
  isBrowserKey(event: KeyboardEvent): boolean;
}

/** How to look for something. */
export interface Search {
  readonly text: string;
  readonly regex: boolean;
  readonly caseSensitive: boolean;
}

/** One terminal. */
export class Screen {
  readonly #reports: ScreenReports;
  readonly #terminal: Terminal;
  readonly #feed: Feed;
  readonly #renderer: Renderer;
  readonly #echo: PredictiveEcho;
  readonly #fit = new FitAddon();
  readonly #search = new SearchAddon({ highlightLimit: 2_000 });
  readonly #focus = new FocusReports();
  readonly #keyboard: Keyboard;
  readonly #shell: Shell;
  /** The font's size where nothing has to be shrunk, px. */
  #font: number;
  readonly #ended = new AbortController();
  #searchColours: SearchColours;
  /** How it was looked for last. */
  #searched: Omit<Search, 'text'> | null = null;
  #space: Box | null = null;
  /** The room there was in a space, at the normal font. */
  #fitted: { readonly space: Box; readonly room: Cells } | null = null;

  constructor(reports: ScreenReports, colours: Colours) {
    this.#reports = reports;
    this.#searchColours = colours.search;
    const look = lookOf(reports.settings());
    this.#font = look.fontSize;
    this.#terminal = this.#make(colours, look);
    this.#feed = new Feed(this.#terminal, {
      parsed: (generation, offset) => this.#parsed(generation, offset),
      cleared: () => this.#cleared(),
      resized: (cols, rows) => this.#resized({ cols, rows }),
    });
    this.#renderer = new Renderer(this.#terminal);
    this.#echo = new PredictiveEcho(this.#terminal, () => reports.settings().echo);
    this.#addOns();
    this.#keyboard = new Keyboard(this.#terminal, () => reports.settings().shiftEnter);
    this.#shell = new Shell(this.#terminal, reports);
    this.#wire();
  }

  /** Puts the terminal into an element. */
  open(element: HTMLElement): void {
    this.#terminal.open(element);
    this.#echo.open();
    const { signal } = this.#ended;
    const { textarea } = this.#terminal;
    if (textarea) this.#focus.watch(element, textarea, signal);
    // Before xterm's own listener, which would paste as it stands.
    element.addEventListener('paste', (event) => this.#pasted(event), { capture: true, signal });
    scrollByTouch(this.#terminal, element, signal);
    element.addEventListener('mouseup', () => this.#selected(), { signal });
  }

  /** Takes an event of the viewer. */
  take(event: ViewerEvent): void {
    this.#feed.take(event);
    this.#echo.take(event);
  }

  /** The page has so much space for the terminal, px. */
  setSpace(space: Box): void {
    this.#space = space;
    this.#measure();
  }

  /** Shown or hidden. */
  show(shown: boolean): void {
    if (shown) this.#renderer.show();
    else this.#renderer.hide();
    // Renderers round cells differently.
    if (shown) this.#measure();
  }

  /** New colours. */
  setColours({ theme, search }: Colours): void {
    this.#terminal.options.theme = theme;
    this.#searchColours = search;
  }

  /** The settings have changed. */
  apply(settings: Settings): void {
    const { fontSize, ...rest } = lookOf(settings);
    const { options } = this.#terminal;
    for (const [name, value] of Object.entries(rest)) {
      const key = name as keyof typeof rest;
      if (options[key] !== value) Object.assign(options, { [key]: value });
    }
    this.#font = fontSize;
    options.fontSize = fontSize;
    // Cells have another size now: what was measured with the one before says nothing.
    this.#fitted = null;
    this.#measure();
  }

  /** Scrolls to the prompt before or after what is at the top. */
  jump(back: boolean): boolean {
    return this.#shell.jump(back);
  }

  /** Its keys that no keyboard presses. */
  get keyboard(): Pick<Keyboard, 'hold' | 'press' | 'released'> {
    return this.#keyboard;
  }

  /** Takes the keyboard. */
  focus(): void {
    this.#terminal.focus();
  }

  /** What draws it. */
  get renderer(): 'webgl' | 'dom' {
    return this.#renderer.kind;
  }

  /** Its size in cells. */
  get cells(): Cells {
    return { cols: this.#terminal.cols, rows: this.#terminal.rows };
  }

  /** Scrollback and screen as text. */
  text(): string {
    return bufferText(this.#terminal.buffer.active);
  }

  /** The selected text. */
  selection(): string {
    return this.#terminal.getSelection();
  }

  /** Selects everything. */
  selectAll(): void {
    this.#terminal.selectAll();
  }

  /** Pastes a text, after a question where one is due. */
  paste(raw: string): void {
    const paste = preparePaste(raw);
    if (needsConsent(paste, this.#terminal.modes.bracketedPasteMode)) this.#reports.askPaste(paste);
    else this.pasteNow(paste);
  }

  /** Pastes without asking. */
  pasteNow({ text }: Paste): void {
    if (text !== '') this.#terminal.paste(text);
    this.focus();
  }

  /** Types as a key would. */
  press(text: string): void {
    this.#terminal.input(text);
  }

  /** Looks for something, onwards or back from where it stands. False: it is nowhere, or no regular expression. */
  find({ text, ...options }: Search, back: boolean, incremental = false): boolean {
    this.#searchAnew(options);
    try {
      const all = { ...options, incremental, decorations: this.#searchColours };
      return back ? this.#search.findPrevious(text, all) : this.#search.findNext(text, all);
    } catch {
      return false;
    }
  }

  /** The add-on counts anew for another text only, not for other options (xterm addon-search 0.16). */
  #searchAnew({ regex, caseSensitive }: Omit<Search, 'text'>): void {
    const before = this.#searched;
    this.#searched = { regex, caseSensitive };
    if (before?.regex !== regex || before.caseSensitive !== caseSensitive) this.endSearch();
  }

  /** Forgets what was looked for. */
  endSearch(): void {
    this.#search.clearDecorations();
    this.#terminal.clearSelection();
  }

  /** Takes it off the page. */
  dispose(): void {
    this.#ended.abort();
    this.#echo.dispose();
    this.#terminal.dispose();
  }

  #make({ theme }: Colours, look: ReturnType<typeof lookOf>): Terminal {
    return new Terminal({
      allowProposedApi: true, // Unicode 11 and search decorations
      ...look,
      cursorInactiveStyle: 'outline',
      linkHandler: {
        activate: (event, uri) => this.#claimedLink(event, uri),
        hover: (_event, uri) => this.#reports.overLink(followable(uri)),
        leave: () => this.#reports.overLink(null),
        allowNonHttpProtocols: false,
      },
      rescaleOverlappingGlyphs: true,
      theme,
    });
  }

  #addOns(): void {
    const links = new WebLinksAddon((event, uri) => this.#plainLink(event, uri), {
      hover: (_event, uri) => this.#reports.overLink(followable(uri)),
      leave: () => this.#reports.overLink(null),
    });
    for (const addOn of [this.#fit, this.#search, links, new Unicode11Addon()]) {
      this.#terminal.loadAddon(addOn);
    }
    this.#terminal.unicode.activeVersion = '11';
    swallowQueries(this.#terminal.parser);
    // After those: the last that asks is the first to be asked.
    watchOffers(this.#terminal.parser, (text) => this.#reports.offered(text));
  }

  #wire(): void {
    const terminal = this.#terminal;
    terminal.onData((data) => {
      if (!this.#focus.passes(data)) return;
      const sent = this.#keyboard.withHeld(data);
      this.#typed(sent, utf8(sent));
    });
    terminal.onBinary((data) => this.#typed('\0', latin1(data)));
    terminal.onBell(() => this.#reports.bell());
    terminal.attachCustomKeyEventHandler(
      (event) => !this.#reports.isBrowserKey(event) && !this.#keyboard.takes(event),
    );
    this.#search.onDidChangeResults(({ resultIndex, resultCount }) => {
      this.#reports.found(resultIndex, resultCount);
    });
  }

  /** What follows says anew what is switched on. */
  #cleared(): void {
    this.#keyboard.modes.reset();
    this.#shell.reset();
  }

  /** `data` is what predictions make of the bytes. */
  #typed(data: string, bytes: Uint8Array): void {
    const end = this.#reports.typed(bytes);
    if (end !== null) this.#echo.typed(data, end);
  }

  #parsed(generation: number, offset: number): void {
    this.#echo.parsed(generation, offset);
    this.#reports.parsed(generation, offset);
  }

  #selected(): void {
    const text = this.selection();
    if (text !== '') this.#reports.selected(text);
  }

  #pasted(event: ClipboardEvent): void {
    event.preventDefault();
    event.stopPropagation();
    this.paste(event.clipboardData?.getData('text/plain') ?? '');
  }

  /** A link whose text is its address. */
  #plainLink(event: MouseEvent, uri: string): void {
    const address = followable(uri);
    if (address && followsLink(event)) openLink(address);
  }

  /** A link whose text is whatever the program chose (OSC 8). */
  #claimedLink(event: MouseEvent, uri: string): void {
    const address = followable(uri);
    if (address && followsLink(event)) this.#reports.askLink(address);
  }

  // ── size ────────────────────────────────────────────────────────────────────────────────────

  /** Says how many cells there is room for at the normal font. */
  #measure(): void {
    if (!this.#space) return;
    const room = this.#roomIn(this.#space);
    if (!room) return;
    this.#fitted = { space: this.#space, room };
    this.#shrink();
    this.#reports.room(room);
  }

  /** Asks xterm while it has the normal font; a shrunk one would count smaller cells, so then it is proportion. */
  #roomIn(space: Box): Cells | null {
    const known = this.#fitted;
    if (known && this.#terminal.options.fontSize !== this.#font)
      return scaledRoom(known.room, known.space, space);
    const fit = this.#fit.proposeDimensions();
    return fit && Number.isFinite(fit.cols) ? boundCells(fit) : null;
  }

  #resized(cells: Cells): void {
    this.#shrink();
    this.#reports.resized(cells);
  }

  /** A session larger than the space is shown whole, in a smaller font. */
  #shrink(): void {
    if (!this.#fitted) return;
    const font = fontFor(this.cells, this.#fitted.room, this.#font);
    if (this.#terminal.options.fontSize !== font) this.#terminal.options.fontSize = font;
  }
}
