/** What the preview of a terminal shows: prompt, colours, styles. */
const CSI = '\u001b[';
const colours = (from: number) =>
  Array.from({ length: 8 }, (_, index) => `${CSI}${from + index}m ███${CSI}0m`).join('');

export const SAMPLE = [
  `${CSI}32mada@laptop${CSI}0m ${CSI}34m~/rexec${CSI}0m $ cargo test --workspace`,
  `   ${CSI}1;32mCompiling${CSI}0m tunnel v0.1.0`,
  `    ${CSI}1;32mFinished${CSI}0m in 4.21s`,
  `test session::resumes_at_the_byte ... ${CSI}32mok${CSI}0m`,
  `test ticket::of_another ... ${CSI}31mFAILED${CSI}0m ${CSI}33mwarning${CSI}0m`,
  `${CSI}1mbold${CSI}0m ${CSI}3mitalic${CSI}0m ${CSI}4munderlined${CSI}0m ${CSI}2mdim${CSI}0m 0O 1lI {} => é`,
  colours(30),
  colours(90),
  '',
  `${CSI}32mada@laptop${CSI}0m ${CSI}34m~/rexec${CSI}0m $ `,
].join('\r\n');
