// The pairs: price, change since the start, and the way of the last minute as this browser has seen it. A search shows
// those with these letters in their names.
import { path } from './chart.js';
import { isLive } from './connection.js';
import { $, mark, stamp, text } from './dom.js';
import { ago, count, signed } from './format.js';
import { keep, on, state } from './state.js';

const MOST = 400; // tiles
const WAY = 60; // seconds
const STALE_MS = 30_000; // without a new price

const tiles = new Map();

export function start() {
  const price = ({ symbol, price, open }) => {
    const pair = state.pairs.get(symbol) ?? { way: [] };
    state.pairs.set(symbol, Object.assign(pair, { price, open, changed: true, heard: Date.now() }));
  };
  keep({ price }, () => ({ pairs: new Map() }));
  on(['price', 'app'], draw);
  $('search').addEventListener('input', draw);
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input, dialog');
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      $('search').focus();
    }
    if (event.key === 'Escape' && event.target === $('search')) {
      $('search').value = '';
      draw();
    }
  });
  setInterval(eachSecond, 1000);
}

function draw() {
  const sought = $('search').value.trim().toUpperCase();
  const names = [...state.pairs.keys()].filter((name) => name.toUpperCase().includes(sought)).sort();
  const shown = names.slice(0, MOST);
  if (shown.length !== tiles.size || shown.some((name) => !tiles.has(name))) lay(shown);
  text($('pairs-note'), sought ? `${count(names.length)} of ${count(state.pairs.size)}` : `${count(names.length)} pairs`);
  $('no-pairs').hidden = names.length > 0 || sought === '';
  text($('no-pairs'), `No pair has “${sought}” in its name.`);
  for (const name of shown) {
    const pair = state.pairs.get(name);
    if (!pair.changed) continue;
    pair.changed = false;
    drawTile(tiles.get(name), pair);
  }
}

function drawTile({ tile, price, change }, pair) {
  const way = Math.round((Number(pair.price) / Number(pair.open) - 1) * 10_000) / 100;
  text(price, pair.price);
  text(change, `${signed(way, 2)} %`);
  mark(change, 'way', way > 0 ? 'up' : way < 0 ? 'down' : 'same');
  mark(tile, 'stale', '');
}

function lay(names) {
  tiles.clear();
  $('pairs').replaceChildren(...names.map((name) => {
    const tile = stamp('pair');
    const [head, price, svg] = tile.children;
    head.firstElementChild.textContent = name;
    tiles.set(name, { tile, price, change: head.lastElementChild, svg });
    state.pairs.get(name).changed = true;
    return tile;
  }));
}

function eachSecond() {
  if (!isLive()) return;
  for (const [name, pair] of state.pairs) {
    pair.way.push(Number(pair.price));
    pair.way.splice(0, pair.way.length - WAY);
    const view = tiles.get(name);
    if (view && !document.hidden) drawWay(view, pair);
  }
}

function drawWay({ tile, change, svg }, { way, heard }) {
  const [low, high] = [Math.min(...way), Math.max(...way)];
  const x = (i) => ((WAY - way.length + i) / (WAY - 1)) * 100;
  const y = (value) => (high === low ? 50 : 95 - ((value - low) / (high - low)) * 90);
  svg.firstElementChild.setAttribute('d', path(way, x, y));
  tile.title = `from ${low} to ${high} in the last ${way.length} s`;
  const age = Date.now() - heard;
  if (age <= STALE_MS) return;
  text(change, ago(age / 1000));
  mark(change, 'way', 'same');
  mark(tile, 'stale', 'stale');
}
