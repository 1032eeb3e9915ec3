// The figures of the run as a whole, and the sentence that says what is not as usual.
import { age } from './connection.js';
import { $, mark, text } from './dom.js';
import { ago, bytes, clock, count, decimal, percent, time } from './format.js';
import { percentiles } from './histogram.js';
import { batchers, on, state } from './state.js';

const RECENT = 4; // samples, two seconds: a rate that can be read while it changes

export function start() {
  on(['app', 'batcher', 'sample'], draw);
  on(['errors'], drawErrors);
}

const NUMBERS = ['no', 'the one', 'both', 'all three', 'all four', 'all five', 'all six', 'all seven', 'all eight', 'all nine'];

function draw() {
  const { app } = state;
  if (!app) return;
  const all = Object.values(state.batchers);
  const sum = (part) => all.reduce((total, { stats }) => total + part(stats), 0);
  const recent = state.samples.slice(-RECENT);
  const rate = recent.reduce((total, s) => total + Object.values(s.batchers).reduce((r, flow) => r + flow.rate, 0), 0) / recent.length;
  const [accepted, batches] = [sum((one) => one.accepted), sum((one) => one.batches)];
  const merged = sum((one) => one.conflated + one.netted);
  text($('clock'), clock(app.seconds));
  text($('rate'), count(recent.length ? rate : null));
  text($('operations'), `${count(accepted)} so far`);
  text($('calls'), count(batches));
  text($('per-call'), `${decimal(batches ? sum((one) => one.written) / batches : null)} operations each`);
  text($('merged'), percent(merged / Math.max(1, accepted)));
  text($('merged-count'), `${count(merged)} replaced or netted`);
  drawSlowest(all);
  drawNow();
  const { frames, browsers } = app;
  text($('foot'), `${count(frames.messages)} messages went to ${browsers === 1 ? 'this browser' : `${browsers} browsers`} in `
    + `${count(frames.frames)} frames, ${bytes(frames.bytes)} in all; ${count(app.frames_saved)} frames were saved. An event that `
    + 'a browser has not read yet is replaced by the next of its kind.');
}

// The times of the batcher whose operations take longest, in the last minute.
function drawSlowest(all) {
  const known = all.map((batcher) => ({ name: batcher.name, ...percentiles(batcher) })).filter(({ p99 }) => p99 !== undefined);
  const slowest = known.sort((a, b) => b.p99 - a.p99)[0];
  text($('slowest-p99'), slowest ? `in ${time(slowest.p99)}` : '–');
  const none = all.some(({ latency }) => latency) ? 'none in the last minute' : 'times are not recorded';
  text($('slowest-p50'), slowest ? `of ${slowest.name}, half in ${time(slowest.p50)}` : none);
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
    halted && `the app is halted until ${name} are resumed`,
    stats.paused && `${name} are paused, ${count(stats.waiting)} wait`,
    stats.in_outage && `${to || 'the destination'} is away, ${count(stats.waiting)} ${name} wait`,
  ]).filter(Boolean);
  if (app.stopping) unusual.unshift(`the app is stopping: ${count(app.unsettled)} operations are still to be settled`);
  const words = unusual.length ? unusual.join('; ') : running(batchers().length);
  text($('now'), `${words[0].toUpperCase()}${words.slice(1)}.`);
  mark($('now'), 'tone', unusual.length ? 'warn' : '');
}

const running = (n) => `${NUMBERS[n] ?? `all ${n}`} batcher${n === 1 ? ' runs' : 's run'}`;

// The sentence on a run that has ended.
function epilogue({ operations, unsettled }) {
  const rest = unsettled === 0 ? 'all of them settled' : `${count(unsettled)} of them not settled`;
  return `The app has ended, after ${count(operations)} operations, ${rest}. The page shows its last moments.`;
}

// The sentence on a run that has not said that it ended.
function missed(app) {
  if (!app) return 'The app cannot be reached.';
  return 'The connection was lost, and the app has not said that it ended: it may still run. '
    + `The page shows the state of ${ago(age())}.`;
}
