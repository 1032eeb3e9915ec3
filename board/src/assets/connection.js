// The one WebSocket over which the events come. The body of the page says its state: connecting, live, lost or ended.
import { $, text } from './dom.js';
import { reset, state, take } from './state.js';

const SILENT_MS = 5000; // something comes twice a second

const WORDS = { live: 'live', lost: 'connection lost, trying again', ended: 'the run has ended, waiting for the next' };

let socket = null;
let [tries, retry] = [0, 0];
let opened = 0; // when the socket was made
let heard = 0; // when the last event came
let changed = () => {};

export const isLive = () => document.body.dataset.link === 'live';

// Age of what the page shows, in seconds; null before the first event.
export const age = () => (heard === 0 ? null : (Date.now() - heard) / 1000);

// Connects. Calls `told` whenever the state of the connection changes, and each second while there is none.
export function start(told) {
  changed = told;
  connect();
  setInterval(watch, 1000);
  addEventListener('online', hurry);
  document.addEventListener('visibilitychange', hurry);
}

function connect() {
  clearTimeout(retry);
  if (socket !== null) return;
  const mine = new WebSocket(new URL('./socket', import.meta.url.replace(/^http/, 'ws')));
  socket = mine;
  opened = Date.now();
  let first = true;
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heard = Date.now();
    if (first) {
      // The first frame has all there is to know. State from before may be of another run.
      first = false;
      tries = 0;
      reset();
      tell('live');
    }
    for (const event of JSON.parse(data)) take(event);
  };
  mine.onclose = () => mine === socket && lost();
}

function lost() {
  const old = socket;
  socket = null;
  old.close();
  // Later and later, and not all browsers at once.
  const wait = Math.min(8000, 400 * 2 ** tries++) * (0.75 + Math.random() / 2);
  // A run that has said that it ended stays ended, until there is another one.
  tell(state.ended ? 'ended' : 'lost');
  retry = setTimeout(connect, wait);
}

function tell(link) {
  if (document.body.dataset.link === link) return;
  document.body.dataset.link = link;
  text($('link-text'), WORDS[link]);
  changed();
}

function watch() {
  if (socket && Date.now() - Math.max(opened, heard) > SILENT_MS) lost();
  if (!isLive()) changed();
}

function hurry() {
  if (socket || document.hidden) return;
  tries = 0;
  connect();
}
