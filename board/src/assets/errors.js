// The errors of the destinations by reason.
import { $, fill, mark, text } from './dom.js';
import { ago, count } from './format.js';
import { batchers, on, state } from './state.js';

export function start() { on(['errors'], draw); }

function draw() {
  const rows = state.errors;
  fill($('errors'), 'error', rows, (row, { batcher, effect, reason, ops, seconds_ago: age }) => {
    const [to, what, why, operations, last] = row.children;
    text(to, batcher);
    mark(to, 'batcher', batcher);
    mark(to, 'color', String(batchers().indexOf(batcher) % 6));
    text(what, effect);
    text(why, reason);
    why.title = reason;
    text(operations, count(ops));
    text(last, ago(age));
  });
  $('no-errors').hidden = rows.length > 0;
}
