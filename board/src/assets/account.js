// The account of all operations: what was accepted is the sum of how operations ended, those that wait, and those that are
// in flight.
import { $, add, fill, mark, text } from './dom.js';
import { count, percent } from './format.js';
import { batchers, on, state } from './state.js';

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

export function start() { on(['app', 'batcher'], draw); }

// Makes a row have so many cells of a kind, after those that it has.
function cells(row, names, element) {
  while (row.children.length < names.length + 1) add(row, element, 'number');
}

function draw() {
  const names = batchers();
  const stats = names.map((name) => state.batchers[name]?.stats);
  if (names.length === 0 || stats.some((one) => !one)) return;
  drawHead([...names, 'all', 'share']);
  const line = (field) => {
    const counts = stats.map((one) => one[field]);
    return [...counts, counts.reduce((sum, n) => sum + n, 0)];
  };
  const rows = ROWS.map(([field, words, always]) => ({ words, always, counts: line(field) }));
  const accepted = line('accepted');
  const sums = accepted.map((_, i) => rows.reduce((sum, { counts }) => sum + counts[i], 0));
  fill($('account'), 'account-row', rows.filter(({ always, counts }) => always || counts.at(-1) > 0), (row, { words, counts }) => {
    cells(row, [...names, 'all', 'share'], 'td');
    const [name, ...more] = words.split(', ');
    text(row.firstElementChild.firstElementChild, name);
    text(row.firstElementChild.lastElementChild, more.join(', '));
    counts.forEach((n, i) => text(row.children[i + 1], n === 0 ? '–' : count(n)));
    text(row.lastElementChild, percent(counts.at(-1) / Math.max(1, accepted.at(-1))));
  });
  accepted.forEach((n, i) => text($('accepted').children[i + 1], count(n)));
  const adds = sums.every((sum, i) => sum === accepted[i]);
  text($('account-note'), adds ? 'each column adds up' : `they add up to ${sums.map(count).join(', ')}`);
  mark($('account-note'), 'adds', String(adds));
}

function drawHead(names) {
  const [head, foot] = [$('account-names'), $('accepted')];
  if (head.children.length === names.length + 1) return;
  for (const row of [head, foot]) row.replaceChildren();
  add(head, 'th').scope = 'col';
  for (const name of names) Object.assign(add(head, 'th', 'number'), { scope: 'col', textContent: name });
  Object.assign(add(foot, 'th'), { scope: 'row', textContent: '= accepted' });
  cells(foot, names, 'td');
  text(foot.lastElementChild, '100 %');
}
