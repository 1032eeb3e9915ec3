// The latest orders and their verdicts.
import { $, fill, mark, text } from './dom.js';
import { count, time } from './format.js';
import { keep, on, state } from './state.js';

export function start() {
  keep({ verdicts(event) { state.verdicts = event; } }, () => ({ verdicts: null }));
  on(['verdicts'], draw);
}

function draw() {
  const { heard, latest } = state.verdicts;
  text($('verdicts-note'), `a few of ${count(heard)}, the rare ones first`);
  fill($('verdicts'), 'verdict', latest, (row, line) => {
    const [what, price, verdict, after] = row.children;
    text(what.firstElementChild, line.symbol);
    text(what.lastElementChild, `${line.side} ${line.what}`);
    text(price, line.price);
    mark(verdict, 'end', line.end);
    text(verdict.firstElementChild, line.end.replace('_', ' '));
    text(verdict.lastElementChild, line.attempts > 1 ? `${line.note}, attempt ${line.attempts}` : line.note);
    verdict.title = verdict.lastElementChild.textContent;
    text(after, time(line.milliseconds));
  });
}
