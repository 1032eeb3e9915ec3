// The state of the app, as its events tell it. `take` keeps an event; `on` names what draws the events of a kind, at most
// once a frame, however many have come.
//
// An event of a new kind needs an entry in `KEEP`, and a file that draws it.

export const BATCHERS = ['prices', 'orders', 'trades'];
export const SAMPLES = 120; // of a minute
export const PERIOD = 0.5; // seconds from one sample to the next

export const state = {};
reset();

export function reset() {
  const nothing = { app: null, batchers: {}, samples: [], verdicts: null, equity: null, positions: null, errors: [], ended: null };
  Object.assign(state, nothing, { pairs: new Map() });
}

const KEEP = {
  app(event) { state.app = event; },
  batcher(event) { state.batchers[event.name] = event; },
  verdicts(event) { state.verdicts = event; },
  equity(event) { state.equity = event; },
  positions(event) { state.positions = event; },
  errors(event) { state.errors = event.rows; },
  ended(event) { state.ended = event; },
  price({ symbol, price, open }) {
    const pair = state.pairs.get(symbol) ?? { way: [] };
    state.pairs.set(symbol, Object.assign(pair, { price, open, changed: true, heard: Date.now() }));
  },
  sample(event) {
    state.samples.push(event);
    // A new page gets them in any order.
    state.samples.sort((a, b) => a.n - b.n);
    state.samples.splice(0, state.samples.length - SAMPLES);
  },
};

export function take(event) {
  const keep = KEEP[event.kind];
  if (!keep) return;
  keep(event);
  changed(event.kind);
}

const drawers = new Map();
const waiting = new Set();

export function on(kinds, draw) {
  for (const kind of kinds) drawers.set(kind, [...(drawers.get(kind) ?? []), draw]);
}

function changed(kind) {
  if (waiting.size === 0) requestAnimationFrame(draw);
  waiting.add(kind);
}

function draw() {
  const due = new Set([...waiting].flatMap((kind) => drawers.get(kind) ?? []));
  waiting.clear();
  for (const each of due) {
    try {
      each();
    } catch (error) {
      // A part that cannot be drawn is told to the console, and keeps no other part from being drawn.
      reportError(error);
    }
  }
}

// For the console of the browser, and for tests.
globalThis.state = state;
