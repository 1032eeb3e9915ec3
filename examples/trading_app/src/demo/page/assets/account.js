// The account of all operations: what was accepted is the sum of how operations ended, those that wait, and those that are
// in flight.
import { $, fill, mark, text } from './dom.js';
import { count, percent } from './format.js';
import { BATCHERS, on, state } from './state.js';

// The ways to end and to be under way: the field of the statistics, its name and what that means, and whether the row is
// there also at zero.
const ROWS = [
  ['delivered', 'delivered', true],
  ['conflated', 'conflated, replaced by a newer one', true],
  ['netted', 'netted, canceled before it was sent', true],
  ['deduplicated', 'deduplicated'],
  ['expired', 'expired'],
  ['withdrawn', 'withdrawn'],
  ['refused', 'refused', true],
  ['exhausted', 'retries used up'],
  ['in_doubt', 'in doubt'],
  ['evicted', 'evicted'],
  ['returned', 'returned'],
  ['lost', 'lost'],
  ['waiting', 'waiting', true],
  ['in_flight', 'in flight', true],
];

export function start() { on(['batcher'], draw); }

function draw() {
  const stats = BATCHERS.map((name) => state.batchers[name]?.stats);
  if (stats.some((one) => !one)) return;
  const line = (field) => {
    const counts = stats.map((one) => one[field]);
    return [...counts, counts.reduce((sum, n) => sum + n, 0)];
  };
  const rows = ROWS.map(([field, words, always]) => ({ words, always, counts: line(field) }));
  const accepted = line('accepted');
  const sums = accepted.map((_, i) => rows.reduce((sum, { counts }) => sum + counts[i], 0));
  fill($('account'), 'account-row', rows.filter(({ always, counts }) => always || counts[3] > 0), (row, { words, counts }) => {
    const [name, ...more] = words.split(', ');
    text(row.firstElementChild.firstElementChild, name);
    text(row.firstElementChild.lastElementChild, more.join(', '));
    counts.forEach((n, i) => text(row.children[i + 1], n === 0 ? '–' : count(n)));
    text(row.lastElementChild, percent(counts[3] / Math.max(1, accepted[3])));
  });
  accepted.forEach((n, i) => text($('accepted').children[i + 1], count(n)));
  const adds = sums.every((sum, i) => sum === accepted[i]);
  text($('account-note'), adds ? 'each column adds up' : `they add up to ${sums.map(count).join(', ')}`);
  mark($('account-note'), 'adds', String(adds));
}
