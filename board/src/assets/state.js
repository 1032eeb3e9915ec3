// The state of the app, as its events tell it. `take` keeps an event; `on` names what draws the events of a kind, at most
// once a frame, however many have come.
//
// An event of a new kind needs a call of `keep`, before the first event comes, and a file that draws it.

// Names of the batchers, in the order in which they are shown.
export const batchers = () => state.app?.batchers ?? [];
export const SAMPLES = 120; // of a minute
export const PERIOD = 0.5; // seconds from one sample to the next

export const state = {};
const empty = [];
reset();

export function reset() {
  Object.assign(state, { app: null, batchers: {}, samples: [], errors: [], ended: null }, ...empty.map((make) => make()));
}

const KEEP = {
  app(event) { state.app = event; },
  batcher(event) { state.batchers[event.name] = event; },
  errors(event) { state.errors = event.rows; },
  ended(event) { state.ended = event; },
  sample(event) {
    state.samples.push(event);
    // A new page gets them in any order.
    state.samples.sort((a, b) => a.n - b.n);
    state.samples.splice(0, state.samples.length - SAMPLES);
  },
};

// Keeps events of a panel: `kinds` has a function for each, and `make` the part of the state that a new connection begins with.
export function keep(kinds, make) {
  Object.assign(KEEP, kinds);
  empty.push(make);
  Object.assign(state, make());
}

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
