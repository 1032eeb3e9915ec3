// The live page: in come events over one WebSocket, out go figures and charts; back go buttons, as POSTs.
//
// Events change `state`, at whatever rate they come. `dirty` makes the page say the same, at most once a frame.
'use strict';

const SAMPLES = 120;
const BUCKETS = 32;
const FIRST_EDGE_MS = 0.25; // each bucket reaches 2^(1/2) times as far as the one before
const SILENT_MS = 5000; // something comes twice a second
const MOST_PAIRS = 400;
const BATCHERS = ['prices', 'orders', 'trades'];
const CHARTS = [
  { key: 'rate', name: 'operations per second', say: (x) => (x === undefined ? '–' : count(x)), least: 10 },
  { key: 'size', name: 'batch size', say: decimal },
  { key: 'fill', name: 'fill', say: percent, top: 1 },
  { key: 'merged', name: 'conflation', say: percent, top: 1 },
  { key: 'retries', name: 'retries per s', say: decimal, least: 5 },
];

const $ = (id) => document.getElementById(id);
const add = (parent, name) => parent.appendChild(document.createElement(name));
const stamp = (template) => $(template).content.firstElementChild.cloneNode(true);
const fresh = () => ({ app: null, batchers: {}, samples: [], verdicts: null, ended: null, pairs: new Map() });
let state = fresh();

// ---- what is said of numbers
function count(n) { return Math.round(n).toLocaleString('en-US'); }
function decimal(x) { return x === null || x === undefined ? '–' : x >= 100 ? count(x) : x.toFixed(1); }
function percent(x) { return x === null || x === undefined ? '–' : `${(x * 100).toFixed(x < 0.1 ? 1 : 0)} %`; }
function time(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
function clock(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map((n) => String(Math.floor(n)).padStart(2, '0'));
  return h === '00' ? `${m}:${s}` : `${h}:${m}:${s}`;
}
function bytes(n) { return n < 1e6 ? `${count(n / 1e3)} kB` : `${(n / 1e6).toFixed(1)} MB`; }

// ---- the connection
let socket = null;
let [tries, heard, retry] = [0, 0, 0];

function connect() {
  clearTimeout(retry);
  if (socket !== null) return;
  const mine = new WebSocket(`ws://${location.host}/socket`);
  socket = mine;
  heard = Date.now();
  let first = true;
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heard = Date.now();
    if (first) {
      // What comes first is all there is to know: what was known before may be of another run.
      first = false;
      tries = 0;
      state = fresh();
      tell('live', 'live');
    }
    for (const event of JSON.parse(data)) take(event);
    dirty();
  };
  mine.onclose = () => mine === socket && lost();
}

function lost() {
  const old = socket;
  socket = null;
  old.close();
  // Later and later, and not all browsers at once.
  const wait = Math.min(8000, 400 * 2 ** tries++) * (0.75 + Math.random() / 2);
  if (state.ended) tell('ended', 'the app has ended', ended(state.ended));
  else tell('lost', 'connection lost, trying again', missed());
  retry = setTimeout(connect, wait);
}

// What the banner says of a run that has ended.
function ended({ operations, unsettled }) {
  const rest = unsettled === 0 ? 'all of them settled' : `${count(unsettled)} of them not settled`;
  return `The app has ended, after ${count(operations)} operations, ${rest}. The page shows its last moments.`;
}

// What the banner says if the connection was lost instead.
function missed() {
  if (!state.app) return 'The app cannot be reached.';
  return 'The connection was lost, and the app has not said that it ended: it may still be trading. '
    + `The page shows the state of ${new Date(heard).toLocaleTimeString()}.`;
}

function tell(link, words, banner = '') {
  if (document.body.dataset.link === link) return;
  document.body.dataset.link = link;
  $('link-text').textContent = words;
  $('banner').textContent = banner;
  $('banner').hidden = banner === '';
  buttons();
}

setInterval(() => { if (socket && Date.now() - heard > SILENT_MS) lost(); }, 1000);
const hurry = () => { if (!socket && !document.hidden) { tries = 0; connect(); } };
addEventListener('online', hurry);
document.addEventListener('visibilitychange', hurry);

// ---- events
function take(event) {
  switch (event.kind) {
    case 'price': {
      const pair = state.pairs.get(event.symbol) ?? { way: [] };
      state.pairs.set(event.symbol, Object.assign(pair, { price: event.price, open: event.open, changed: true }));
      break;
    }
    case 'sample':
      state.samples.push(event);
      // A new page gets them in any order.
      state.samples.sort((a, b) => a.n - b.n);
      state.samples.splice(0, state.samples.length - SAMPLES);
      break;
    case 'batcher': state.batchers[event.name] = event; break;
    case 'verdicts': state.verdicts = event; break;
    case 'ended': state.ended = event; break;
    case 'app':
      state.app = event;
      if (pass() && sessionStorage.getItem('run') !== event.run) lock('The app was started anew: it has another token.');
      break;
  }
}

// ---- charts
const SVG = 'http://www.w3.org/2000/svg';
function shape(parent, name, kind) {
  const element = parent.appendChild(document.createElementNS(SVG, name));
  if (kind) element.setAttribute('class', kind);
  return element;
}

// A line with the area below it, from 0 to `top`; where there is no value, there is no line. New values are on the right.
function plot(svg, values, room, top) {
  if (!svg.firstChild) {
    svg.setAttribute('viewBox', '0 0 100 100');
    shape(svg, 'path', 'area');
    shape(svg, 'path', 'base').setAttribute('d', 'M0 100H100');
    shape(svg, 'path', 'line');
  }
  const x = (i) => ((room - values.length + i) / (room - 1)) * 100;
  let [line, area] = ['', ''];
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] === null) continue;
    const from = i;
    const points = [];
    for (; i < values.length && values[i] !== null; i += 1) {
      points.push(`${x(i).toFixed(2)} ${(100 - (values[i] / top) * 100).toFixed(2)}`);
    }
    line += `M${points.join('L')}`;
    area += `M${x(from).toFixed(2)} 100L${points.join('L')}L${x(i - 1).toFixed(2)} 100Z`;
  }
  svg.querySelector('.line').setAttribute('d', line);
  svg.querySelector('.area').setAttribute('d', area);
}

function bars(svg, counts) {
  if (!svg.firstChild) {
    svg.setAttribute('viewBox', `0 0 ${BUCKETS} 100`);
    for (let i = 0; i < BUCKETS; i += 1) {
      const bar = shape(svg, 'rect');
      bar.setAttribute('x', i + 0.1);
      bar.setAttribute('width', 0.8);
    }
  }
  const most = Math.max(1, ...counts);
  counts.forEach((n, i) => {
    const height = n === 0 ? 0 : Math.max(1.5, (n / most) * 100);
    for (const [name, value] of [['y', 100 - height], ['height', height]]) svg.children[i].setAttribute(name, value);
  });
}

// ---- the page says what the state is
let asked = false;
function dirty() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (state.app) drawApp(state.app);
    for (const name of BATCHERS) if (state.batchers[name]) drawBatcher(name, state.batchers[name]);
    if (state.verdicts) drawVerdicts(state.verdicts);
    drawPairs();
  });
}

function text(element, words) { if (element.textContent !== words) element.textContent = words; }

function drawApp(app) {
  const stats = Object.values(state.batchers).map((batcher) => batcher.stats);
  const sum = (part) => stats.reduce((all, one) => all + part(one), 0);
  const recent = state.samples.slice(-4);
  const rate = recent.reduce((all, s) => all + BATCHERS.reduce((r, d) => r + s.batchers[d].rate, 0), 0) / recent.length;
  text($('feed'), app.feed);
  text($('rate'), recent.length ? count(rate) : '–');
  text($('operations'), count(app.operations));
  text($('calls'), count(sum((one) => one.batches)));
  const unsent = sum((one) => one.conflated + one.netted);
  text($('merged'), `${count(unsent)}, ${percent(unsent / Math.max(1, app.operations))}`);
  text($('portfolio'), app.portfolio);
  text($('frames'), count(app.frames_saved));
  text($('clock'), app.stopping && !state.ended ? `stopping, ${count(app.unsettled)} left` : clock(app.seconds));
  const { frames, browsers } = app;
  text($('foot'), `${count(frames.messages)} messages went to ${browsers === 1 ? 'this browser' : `${browsers} browsers`} in `
    + `${count(frames.frames)} frames, ${bytes(frames.bytes)} in all; what a browser has not read yet is replaced by what is true `
    + 'when it has. Charts show the last minute.');
}

const views = {};
function view(name) {
  if (views[name]) return views[name];
  const article = stamp('batcher');
  article.dataset.batcher = name;
  article.setAttribute('aria-label', `the batcher of ${name}`);
  for (const button of article.querySelectorAll('button')) {
    button.dataset.batcher = name;
    button.setAttribute('aria-label', `${button.textContent} ${name}`);
  }
  const multiples = article.querySelector('.multiples');
  for (const { key, name: title } of CHARTS.slice(1)) {
    const figure = multiples.appendChild(stamp('multiple'));
    figure.querySelector('span').textContent = title;
    figure.querySelector('b').dataset.is = key;
    figure.querySelector('svg').dataset.chart = key;
    if (key === 'merged') figure.title = 'the part that never had to be sent: conflated or netted';
  }
  for (const [ms, label] of [[1, '1 ms'], [10, '10 ms'], [100, '100 ms'], [1000, '1 s']]) {
    const tick = add(article.querySelector('.ticks'), 'span');
    tick.textContent = label;
    tick.style.left = `${((2 * Math.log2(ms / FIRST_EDGE_MS) + 1) / BUCKETS) * 100}%`;
  }
  $('batchers').appendChild(article);
  const find = (kind) => (part) => article.querySelector(`[data-${kind}="${part}"]`);
  views[name] = { article, is: find('is'), chartOf: find('chart') };
  buttons();
  return views[name];
}

function drawBatcher(name, batcher) {
  const { article, is, chartOf } = view(name);
  const { stats } = batcher;
  text(is('name'), name);
  text(is('to'), `→ ${batcher.to}, ${batcher.limits.max_items} or ${batcher.limits.linger}`);
  is('to').title = `a batch leaves with ${batcher.limits.max_items} operations, or when its first has waited ${batcher.limits.linger}`;
  const now = [stats.paused && 'paused', batcher.halted && 'bot halted'].filter(Boolean).join(', ');
  text(is('state'), now || 'running');
  is('state').dataset.state = batcher.halted ? 'halted' : stats.paused ? 'paused' : 'running';
  const flows = state.samples.map((sample) => sample.batchers[name]);
  for (const { key, name: title, say, top, least } of CHARTS) {
    const values = flows.map((flow) => flow[key]);
    const said = say(values.findLast((value) => value !== null));
    text(is(key), said);
    plot(chartOf(key), values, SAMPLES, top ?? Math.max(least ?? 1, ...values) * 1.1);
    chartOf(key).setAttribute('aria-label', `${title}, the last minute; now ${said}`);
  }
  const { count: timed, p50_seconds: half, p99_seconds: most, max_seconds: longest } = batcher.latency;
  const [p50, p99, max] = [half, most, longest].map((seconds) => time(seconds * 1000));
  text(is('median'), timed === 0 ? 'none' : `p50 ${p50}, p99 ${p99}, max ${max}`);
  bars(chartOf('times'), batcher.times);
  chartOf('times').setAttribute('aria-label', `histogram of the time in the buffer; ${is('median').textContent}`);
  drawCuts(is, stats);
  text(is('waiting'), `${count(stats.waiting)} of ${count(batcher.limits.max_pending)}`);
  is('room').value = (stats.waiting + stats.in_flight) / batcher.limits.max_pending;
  article.dataset.waiting = stats.waiting;
}

function drawCuts(is, stats) {
  const [bar, legend] = [is('cuts'), is('legend')];
  text(is('batches'), `${count(stats.batches)} batches`);
  const parts = Object.entries(stats.cuts).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  while (bar.children.length < parts.length) {
    add(bar, 'i');
    const item = add(legend, 'li');
    for (const part of ['i', 'span']) add(item, part);
  }
  parts.forEach(([reason, n], i) => {
    const shade = String(Math.max(0.16, 1 - i * 0.26));
    bar.children[i].style.flexGrow = n;
    bar.children[i].style.opacity = legend.children[i].firstChild.style.opacity = shade;
    text(legend.children[i].lastChild, `${reason} ${percent(n / Math.max(1, stats.batches))}`);
  });
  while (bar.children.length > parts.length) { bar.lastChild.remove(); legend.lastChild.remove(); }
  bar.setAttribute('aria-label', parts.map(([reason, n]) => `${reason} ${n}`).join(', '));
}

function drawVerdicts({ heard: all, latest }) {
  const body = $('verdicts');
  text($('verdicts-note'), `and their verdicts: a few of ${count(all)}, the rare ones first`);
  while (body.children.length < latest.length) body.appendChild(stamp('verdict'));
  latest.forEach((line, i) => {
    const [what, price, verdict, after] = body.children[i].children;
    text(what.firstElementChild, line.symbol);
    text(what.lastElementChild, `${line.side} ${line.what}`);
    text(price, line.price);
    verdict.dataset.end = line.end;
    text(verdict.firstElementChild, line.end.replace('_', ' '));
    text(verdict.lastElementChild, line.attempts > 1 ? `${line.note}, attempt ${line.attempts}` : line.note);
    verdict.title = verdict.lastElementChild.textContent;
    text(after, time(line.milliseconds));
  });
  while (body.children.length > latest.length) body.lastChild.remove();
}

const tiles = new Map();
function drawPairs() {
  const names = [...state.pairs.keys()].sort();
  const shown = names.slice(0, MOST_PAIRS);
  if (shown.length !== tiles.size || shown.some((name) => !tiles.has(name))) layTiles(shown);
  const rest = names.length > shown.length ? `; the first ${MOST_PAIRS}` : '';
  text($('pairs-note'), `of ${count(names.length)} pairs, and their way since the start${rest}`);
  for (const name of shown) {
    const pair = state.pairs.get(name);
    if (!pair.changed) continue;
    pair.changed = false;
    const { price, change } = tiles.get(name);
    const way = Math.round((Number(pair.price) / Number(pair.open) - 1) * 10000) / 100;
    text(price, pair.price);
    text(change, `${way < 0 ? '−' : way > 0 ? '+' : ''}${Math.abs(way).toFixed(2)} %`);
    change.dataset.way = way > 0 ? 'up' : way < 0 ? 'down' : 'same';
  }
}

function layTiles(names) {
  tiles.clear();
  $('pairs').replaceChildren(...names.map((name) => {
    const tile = stamp('pair');
    const [head, price, svg] = tile.children;
    head.firstElementChild.textContent = name;
    tiles.set(name, { price, change: head.lastElementChild, svg });
    state.pairs.get(name).changed = true;
    return tile;
  }));
}

// The way of each price, once a second, as this browser has seen it.
setInterval(() => {
  if (document.body.dataset.link !== 'live') return;
  for (const [name, { svg }] of tiles) {
    const pair = state.pairs.get(name);
    if (!pair) continue;
    pair.way.push(Number(pair.price));
    pair.way.splice(0, pair.way.length - 60);
    const [low, high] = [Math.min(...pair.way), Math.max(...pair.way)];
    if (!document.hidden) plot(svg, pair.way.map((p) => p - low), 60, (high - low) * 1.1 || 1);
  }
}, 1000);

// ---- buttons
function pass() { return sessionStorage.getItem('pass'); }

function say(words, tone = '') {
  $('said').textContent = words;
  $('said').dataset.tone = tone;
}

function buttons() {
  const open = pass() !== null;
  const usable = open && document.body.dataset.link === 'live';
  $('unlock').hidden = open;
  $('lock').hidden = !open;
  for (const button of document.querySelectorAll('button[data-do]')) button.disabled = !usable;
  // The kill switch needs no live page: a request may get through where the socket doesn't.
  for (const id of ['kill', 'kill-now']) $(id).disabled = !open;
  if (!open && $('sure').open) $('sure').close();
}

function lock(words, tone) {
  sessionStorage.clear();
  say(words, tone);
  buttons();
}
async function post(path, headers, body) {
  try {
    const answer = await fetch(path, { method: 'POST', headers, body });
    return { status: answer.status, ...(await answer.json()) };
  } catch {
    return { status: 0, say: 'the app cannot be reached' };
  }
}

$('unlock').addEventListener('submit', async (event) => {
  event.preventDefault();
  // A header takes no more than that; a token has nothing else.
  const typed = $('token').value.replace(/[^\x21-\x7e]/g, '');
  const answer = await post('unlock', { 'x-roundlot-token': typed });
  say(answer.say, answer.status === 200 ? 'good' : 'bad');
  if (answer.status !== 200) return;
  sessionStorage.setItem('pass', answer.pass);
  sessionStorage.setItem('run', answer.run);
  $('token').value = '';
  buttons();
  $('kill').focus();
});

$('lock').addEventListener('click', () => lock('The buttons are locked.'));

$('kill').addEventListener('click', () => {
  const orders = state.batchers.orders;
  text($('sure-waiting'), orders ? `${count(orders.stats.waiting)} operations wait now.` : '');
  $('sure').showModal();
  $('kill-now').focus();
});
$('never-mind').addEventListener('click', () => $('sure').close());

document.addEventListener('click', async ({ target }) => {
  const button = target.closest('button[data-do]');
  if (!button || button.disabled) return;
  if (button.id === 'kill-now') {
    $('sure').close();
    say('Trading is being stopped.');
  }
  const command = JSON.stringify({ do: button.dataset.do, batcher: button.dataset.batcher });
  const answer = await post('command', { 'x-roundlot-pass': pass() ?? '' }, command);
  if (answer.status === 401) lock(answer.say, 'bad');
  else say(answer.say, answer.status === 200 ? 'good' : 'bad');
});

buttons();
connect();
