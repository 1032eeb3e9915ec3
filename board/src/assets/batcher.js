// A batcher: its rate, times and sizes over the last minute, why its batches were cut, how full its buffer is, and what is
// used of the venue's limits.
import { Chart } from './chart.js';
import { $, add, fill, mark, stamp, text } from './dom.js';
import { count, decimal, percent, round, short, time } from './format.js';
import { Histogram } from './histogram.js';
import { decades, linear, steady } from './scale.js';
import { PERIOD, SAMPLES, batchers, on, state } from './state.js';

const COLORS = 6; // in page.css

const MARKS = [[0, '60 s ago'], [0.25, '45 s'], [0.5, '30 s'], [0.75, '15 s'], [1, 'now']];
const FEW_MARKS = [[0, '60 s ago'], [1, 'now']];

const fromZero = (marks) => () => steady((low, high) => linear(0, high, marks));
const toOne = () => () => linear(0, 1, 2);
const perSecond = (x) => (x === undefined || x === null ? '–' : `${Number.isInteger(x) ? x : decimal(x)}/s`);
const LATENCY = [{ name: 'p50', kind: 'half' }, { name: 'p99', kind: 'main' }, { name: 'max', kind: 'most' }];

// The charts of a batcher. `scale` makes the scale of one of them; `of` takes the values of its series from the flow of a sample.
const CHARTS = [
  { key: 'rate', name: 'operations per second', say: count, mark: short, scale: fromZero(3), least: 10 },
  {
    key: 'latency', name: 'latency', say: time, mark: round, scale: () => steady(decades), floor: null, series: LATENCY,
    of: ({ latency }) => LATENCY.map(({ name }) => latency?.[name] ?? null),
  },
  { key: 'size', name: 'operations per batch', say: decimal, mark: short, scale: fromZero(3), least: 2 },
  { key: 'fill', name: 'batch fill', say: percent, scale: toOne, few: true },
  { key: 'merged', name: 'never sent', say: percent, scale: toOne, few: true },
  { key: 'retries', name: 'tried again', say: perSecond, scale: fromZero(2), least: 5, few: true },
  { key: 'waiting', name: 'waiting', say: count, mark: short, scale: fromZero(2), least: 10, few: true },
];

// Calls `ready` whenever there are new buttons.
export function start(ready) {
  const views = new Map();
  on(['app', 'batcher', 'sample', 'ended'], () => {
    for (const [i, name] of batchers().entries()) {
      const batcher = state.batchers[name];
      if (!batcher) continue;
      if (!views.has(name)) {
        views.set(name, new View(name, i));
        ready();
      }
      views.get(name).draw(batcher);
    }
  });
}

class View {
  constructor(name, i) {
    this.name = name;
    this.article = stamp('batcher');
    this.article.dataset.batcher = name;
    this.article.dataset.color = i % COLORS;
    this.article.setAttribute('aria-label', `the batcher of ${name}`);
    for (const button of this.article.querySelectorAll('button')) {
      button.dataset.batcher = name;
      button.setAttribute('aria-label', `${button.textContent} ${name}`);
    }
    text(this.is('name'), name);
    this.charts = CHARTS.map(({ series = [{ kind: 'main' }], of, few, ...options }) => {
      const figure = add(this.is(few ? 'multiples' : 'charts'), 'figure', options.key);
      const floor = options.floor === null ? undefined : 0;
      const chart = new Chart(figure, { ...options, series, floor, least: options.least, scale: options.scale() });
      return { chart, few, of: of ?? ((flow) => [flow[options.key]]) };
    });
    this.histogram = new Histogram(this.is('times'));
    this.drawn = null;
    // The batchers stand in the order of the flow, whichever is heard of first.
    const after = batchers().slice(i + 1);
    const next = after.map((other) => document.querySelector(`article[data-batcher="${CSS.escape(other)}"]`)).find(Boolean);
    $('batchers').insertBefore(this.article, next ?? null);
  }

  is(part) { return this.article.querySelector(`[data-is="${part}"]`); }

  draw(batcher) {
    const { stats, limits } = batcher;
    text(this.is('to'), batcher.to ? `→ ${batcher.to}` : '');
    const leaves = limits && `a batch leaves with ${limits.max_items} operations, or when its first has waited ${limits.linger}`;
    this.is('to').title = leaves ?? '';
    this.drawState(batcher);
    this.drawCuts(stats);
    text(this.is('cut-at'), limits ? `cut at ${count(limits.max_items)} operations or after ${limits.linger}` : 'cut');
    text(this.is('room-said'), `${count(stats.waiting)} of ${count(stats.max_pending)} wait, ${count(stats.in_flight)} in flight`);
    this.is('room').value = (stats.waiting + stats.in_flight) / Math.max(1, stats.max_pending);
    this.drawQuota(stats.quota);
    this.article.dataset.waiting = stats.waiting;
    mark(this.article, 'times', batcher.latency ? 'known' : 'unknown');
    const newest = state.samples.at(-1);
    if (newest === undefined || newest === this.drawn) return;
    this.drawn = newest;
    this.histogram.draw(batcher);
    const flows = state.samples.map((sample) => sample.batchers[this.name]);
    const when = (i, length) => (i === length - 1 ? 'now' : `${((length - 1 - i) * PERIOD).toFixed(1)} s ago`);
    for (const { chart, few, of } of this.charts) {
      const values = flows.map(of);
      const series = values[0].map((_, i) => values.map((each) => each[i]));
      chart.draw(series, { room: SAMPLES, when, times: few ? FEW_MARKS : MARKS });
    }
  }

  drawState({ to, halted, stats }) {
    const now = [stats.paused && 'paused', halted && 'halted', stats.in_outage && `${to || 'destination'} away`].filter(Boolean).join(', ');
    text(this.is('state'), state.ended ? 'ended' : now || 'running');
    const how = halted || stats.in_outage ? 'halted' : stats.paused ? 'paused' : 'running';
    mark(this.is('state'), 'state', state.ended ? 'ended' : how);
  }

  // The buckets of the quota, if the batcher has one.
  drawQuota({ buckets, time: held }) {
    this.is('quota').hidden = buckets.length === 0;
    text(this.is('quota-said'), held.max_seconds > 0 ? `${time(held.mean_seconds * 1000)} for them on average` : 'no wait for them');
    fill(this.is('buckets'), 'bucket', buckets, (row, { name, used, limit }) => {
      const [label, meter, said] = row.children;
      text(label, name);
      text(said, `${count(used)} / ${count(limit)}`);
      meter.value = used / limit;
      meter.setAttribute('aria-label', `${name} used`);
    });
  }

  drawCuts(stats) {
    const bar = this.is('cuts');
    text(this.is('batches'), `${count(stats.batches)} batches`);
    const parts = Object.entries(stats.cuts).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    const shade = (i) => String(Math.max(0.2, 1 - i * 0.26));
    fill(bar, 'cut-part', parts, (part, [, n]) => { part.style.flexGrow = n; });
    fill(this.is('legend'), 'cut', parts, (item, [reason, n]) => {
      text(item.lastElementChild, `${reason} ${percent(n / Math.max(1, stats.batches))}`);
    });
    parts.forEach((_, i) => {
      for (const element of [bar.children[i], this.is('legend').children[i].firstElementChild]) element.style.opacity = shade(i);
    });
    bar.setAttribute('aria-label', parts.map(([reason, n]) => `${reason} ${n}`).join(', '));
  }
}
