// The figures of the run as a whole, and the sentence that says what is not as usual.
import { age } from './connection.js';
import { $, mark, text } from './dom.js';
import { ago, bytes, clock, count, decimal, gain, percent, signed, time, way } from './format.js';
import { percentiles } from './histogram.js';
import { BATCHERS, on, state } from './state.js';

const RECENT = 4; // samples, two seconds: a rate that can be read while it changes

export function start() {
  on(['app', 'batcher', 'sample'], draw);
  on(['positions'], drawEquity);
  on(['errors'], drawErrors);
}

// The shards of the log that this bot leads, of all.
const leads = ({ shards, led, takeovers }) => {
  const [which, pairs] = [led.map(({ shard }) => shard).join(', ') || 'none', led.flatMap(({ symbols }) => symbols)];
  return `leads shards ${which} of ${shards}: ${count(pairs.length)} pairs, ${count(takeovers)} takeovers`;
};

function draw() {
  const { app } = state;
  if (!app) return;
  const batchers = Object.values(state.batchers);
  const sum = (part) => batchers.reduce((all, { stats }) => all + part(stats), 0);
  const recent = state.samples.slice(-RECENT);
  const rate = recent.reduce((all, s) => all + BATCHERS.reduce((r, name) => r + s.batchers[name].rate, 0), 0) / recent.length;
  const [accepted, batches] = [sum((one) => one.accepted), sum((one) => one.batches)];
  const merged = sum((one) => one.conflated + one.netted);
  text($('feed'), app.leads ? `${app.feed}; ${leads(app.leads)}` : app.feed);
  const tip = app.leads ? app.leads.led.map(({ shard, term, symbols }) => `${shard} in term ${term}: ${symbols.join(' ')}`).join('\n') : '';
  if ($('feed').title !== tip) $('feed').title = tip;
  text($('clock'), clock(app.seconds));
  text($('rate'), count(recent.length ? rate : null));
  text($('operations'), `${count(accepted)} so far`);
  text($('calls'), count(batches));
  text($('per-call'), `${decimal(batches ? sum((one) => one.written) / batches : null)} operations each`);
  text($('merged'), percent(merged / Math.max(1, accepted)));
  text($('merged-count'), `${count(merged)} replaced or netted`);
  const orders = state.batchers.orders && percentiles(state.batchers.orders);
  text($('order-p99'), orders ? `in ${time(orders.p99)}` : '–');
  text($('order-p50'), orders ? `half in ${time(orders.p50)}` : 'no order in the last minute');
  drawNow();
  const { frames, browsers } = app;
  text($('foot'), `${count(frames.messages)} messages went to ${browsers === 1 ? 'this browser' : `${browsers} browsers`} in `
    + `${count(frames.frames)} frames, ${bytes(frames.bytes)} in all; ${count(app.frames_saved)} frames were saved. An event that `
    + 'a browser has not read yet is replaced by the next of its kind.');
}

function drawEquity() {
  const { equity, profit, profit_percent: part } = state.positions;
  text($('equity'), equity);
  text($('profit'), `${gain(profit)}${part === null ? '' : ` (${signed(part, 3)} %)`}`);
  mark($('profit'), 'way', way(profit));
}

function drawErrors() {
  const rows = state.errors;
  text($('error-count'), count(rows.reduce((sum, { ops }) => sum + ops, 0)));
  text($('error-top'), rows.length ? `most: ${rows[0].reason}` : 'none so far');
}

// A sentence for what is paused, halted or away, or for the end of the run, or for how old the page is.
export function drawNow() {
  const { app, ended } = state;
  const { link } = document.body.dataset;
  if (link === 'connecting') return;
  if (link !== 'live') {
    text($('now'), ended ? epilogue(ended) : missed(app));
    mark($('now'), 'tone', ended ? '' : 'bad');
    return;
  }
  if (!app) return;
  const unusual = Object.values(state.batchers).flatMap(({ name, to, halted, stats }) => [
    halted && 'the bot is halted until orders are resumed',
    stats.paused && `${name} are paused, ${count(stats.waiting)} wait`,
    stats.in_outage && `${to} is away, ${count(stats.waiting)} ${name} wait`,
  ]).filter(Boolean);
  if (app.stopping) unusual.unshift(`the app is stopping: ${count(app.unsettled)} operations are still to be settled`);
  const words = unusual.length ? unusual.join('; ') : 'all three batchers run';
  text($('now'), `${words[0].toUpperCase()}${words.slice(1)}.`);
  mark($('now'), 'tone', unusual.length ? 'warn' : '');
}

// The sentence on a run that has ended.
function epilogue({ operations, unsettled }) {
  const rest = unsettled === 0 ? 'all of them settled' : `${count(unsettled)} of them not settled`;
  return `The app has ended, after ${count(operations)} operations, ${rest}. The page shows its last moments.`;
}

// The sentence on a run that has not said that it ended.
function missed(app) {
  if (!app) return 'The app cannot be reached.';
  return 'The connection was lost, and the app has not said that it ended: it may still be trading. '
    + `The page shows the state of ${ago(age())}.`;
}
