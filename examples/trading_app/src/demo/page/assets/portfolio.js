// The equity of the run as a curve, the open positions with their profit, and what this bot trades.
import { Chart } from './chart.js';
import { $, fill, mark, text } from './dom.js';
import { clock, count, gain, signed, way } from './format.js';
import { clocks, linear, steady } from './scale.js';
import { keep, on, state } from './state.js';

const LEAST_RANGE = 1; // of the axis, so that cents do not look like a slope

export function start() {
  const kinds = {
    bot(event) { state.bot = event; },
    equity(event) { state.equity = event; },
    positions(event) { state.positions = event; },
  };
  keep(kinds, () => ({ bot: null, equity: null, positions: null }));
  const chart = new Chart($('equity-chart'), {
    name: 'equity, change since the start',
    key: 'equity',
    series: [{ kind: 'main' }],
    say: (x) => (x === undefined ? '–' : signed(x, 2)),
    mark: (x, { step }) => signed(x, step < 1 ? 2 : 0),
    scale: steady((low, high) => linear(low, Math.max(high, low + LEAST_RANGE), 4)),
    floor: 0,
    base: 0,
  });
  on(['equity', 'positions'], () => drawCurve(chart));
  on(['positions'], () => {
    drawLead();
    drawPositions();
  });
  on(['bot'], drawBot);
}

// The shards of the log that this bot leads, of all.
const leads = ({ shards, led, takeovers }) => {
  const [which, pairs] = [led.map(({ shard }) => shard).join(', ') || 'none', led.flatMap(({ symbols }) => symbols)];
  return `leads shards ${which} of ${shards}: ${count(pairs.length)} pairs, ${count(takeovers)} takeovers`;
};

function drawBot() {
  const { feed, leads: taken } = state.bot;
  text($('title'), taken ? `${feed}; ${leads(taken)}` : feed);
  const tip = taken ? taken.led.map(({ shard, term, symbols }) => `${shard} in term ${term}: ${symbols.join(' ')}`).join('\n') : '';
  if ($('title').title !== tip) $('title').title = tip;
}

function drawLead() {
  const { equity, profit, profit_percent: part } = state.positions;
  text($('equity'), equity);
  text($('profit'), `${gain(profit)}${part === null ? '' : ` (${signed(part, 3)} %)`}`);
  mark($('profit'), 'way', way(profit));
}

function drawCurve(chart) {
  const { equity, positions } = state;
  if (!equity || !positions) return;
  const start = Number(positions.start.replaceAll(',', ''));
  const seconds = (i) => i * equity.period;
  const last = seconds(equity.points.length - 1);
  chart.draw([equity.points.map((point) => point - start)], {
    when: (i) => `${clock(seconds(i))} after the start`,
    times: clocks(last).map((time) => [last > 0 ? time / last : 0, clock(time)]),
  });
}

function drawPositions() {
  const { positions } = state;
  const { holdings, open } = positions;
  const rest = open > holdings.length ? `, the ${count(holdings.length)} largest` : '';
  text($('positions-note'), `${count(open)} open${rest}; cash ${positions.cash}, realized ${gain(positions.realized)}`);
  fill($('positions'), 'position', holdings, (row, holding) => {
    const [symbol, quantity, average, last, unrealized, realized] = row.children;
    text(symbol, holding.symbol);
    text(quantity, holding.quantity.replace('-', '−'));
    text(average, holding.average);
    text(last, holding.last);
    drawGain(unrealized, holding.unrealized);
    drawGain(realized, holding.realized);
  });
  drawGain($('sum-unrealized'), positions.unrealized);
  drawGain($('sum-realized'), positions.realized);
  $('no-positions').hidden = open > 0;
}

function drawGain(cell, amount) {
  text(cell, gain(amount));
  mark(cell, 'way', way(amount));
}
