/**
 * A browser never answers a terminal query. The session host does, once, from its own screen: several
 * viewers, a replay or a snapshot would otherwise type answers into the shell (THREATS OUT-02).
 */
import type { IDisposable, IFunctionIdentifier, IParser } from '@xterm/xterm';

/** Control sequences that exist to be answered, and the window operations, which nobody here should obey either. */
const CSI_QUERIES: readonly IFunctionIdentifier[] = [
  { final: 'c' }, // DA1
  { prefix: '>', final: 'c' }, // DA2
  { prefix: '=', final: 'c' }, // DA3
  { final: 'n' }, // DSR
  { prefix: '?', final: 'n' }, // DSR, private
  { intermediates: '$', final: 'p' }, // DECRQM, ANSI
  { prefix: '?', intermediates: '$', final: 'p' }, // DECRQM, private
  { intermediates: '$', final: 'w' }, // DECRQPSR
  { intermediates: '*', final: 'y' }, // DECRQCRA
  { final: 'x' }, // DECREQTPARM
  { prefix: '>', final: 'q' }, // XTVERSION
  { prefix: '?', final: 'u' }, // kitty keyboard query
  { prefix: '?', final: 'm' }, // XTQMODKEYS
  { prefix: '?', final: 'S' }, // XTSMGRAPHICS
  { final: 't' }, // window operations
];

const DCS_QUERIES: readonly IFunctionIdentifier[] = [
  { intermediates: '$', final: 'q' }, // DECRQSS
  { intermediates: '+', final: 'q' }, // XTGETTCAP
];

/** Colours that can be asked for with `?`; setting them stays allowed. */
const OSC_COLOURS = [4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19] as const;

/** The clipboard (52), fonts (50) and kitty's colours (21): refused whole, writing too (THREATS OUT-01). */
const OSC_REFUSED = [21, 50, 52] as const;

/** Makes the parser swallow every query. Returns what undoes it. */
export function swallowQueries(parser: IParser): IDisposable[] {
  const swallow = () => true;
  const asks = (data: string) => data.includes('?');
  return [
    ...CSI_QUERIES.map((id) => parser.registerCsiHandler(id, swallow)),
    ...DCS_QUERIES.map((id) => parser.registerDcsHandler(id, swallow)),
    ...OSC_COLOURS.map((id) => parser.registerOscHandler(id, asks)),
    ...OSC_REFUSED.map((id) => parser.registerOscHandler(id, swallow)),
  ];
}
