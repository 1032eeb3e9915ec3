// The buttons: a token unlocks them, and each is a POST. The pass stays in this tab, until it is closed or locked.
import { isLive } from './connection.js';
import { $, mark, text } from './dom.js';
import { count } from './format.js';
import { on, state } from './state.js';

const pass = () => sessionStorage.getItem('pass');

export function start() {
  $('unlock').addEventListener('submit', unlock);
  $('lock').addEventListener('click', () => lock('The buttons are locked.'));
  $('kill')?.addEventListener('click', ask);
  $('never-mind')?.addEventListener('click', () => $('sure').close());
  document.addEventListener('click', push);
  on(['app'], () => {
    const known = sessionStorage.getItem('run');
    if (pass() && known !== state.app.run) lock('The app was started anew: it has another token.');
  });
  refresh();
}

// Makes the buttons usable or not, as the pass and the connection allow.
export function refresh() {
  const open = pass() !== null;
  $('unlock').hidden = open;
  $('lock').hidden = !open;
  for (const button of document.querySelectorAll('button[data-do]')) button.disabled = !open || !isLive();
  // The kill switch needs no live page: a request may get through where the socket doesn't.
  for (const button of [$('kill'), $('kill-now')]) if (button) button.disabled = !open;
  if (!open && $('sure')?.open) $('sure').close();
}

function say(words, tone = '') {
  text($('said'), words);
  mark($('said'), 'tone', tone);
}

function lock(words, tone) {
  sessionStorage.clear();
  say(words, tone);
  refresh();
}

async function post(path, headers, body) {
  try {
    const answer = await fetch(new URL(path, import.meta.url), { method: 'POST', headers, body });
    return { status: answer.status, ...(await answer.json()) };
  } catch {
    return { status: 0, say: 'the app cannot be reached' };
  }
}

async function unlock(event) {
  event.preventDefault();
  // A header takes no other letters, and a token has none.
  const typed = $('token').value.replace(/[^\x21-\x7e]/g, '');
  const answer = await post('unlock', { 'x-roundlot-token': typed });
  say(answer.say, answer.status === 200 ? 'good' : 'bad');
  if (answer.status !== 200) return;
  sessionStorage.setItem('pass', answer.pass);
  sessionStorage.setItem('run', answer.run);
  $('token').value = '';
  refresh();
  $('kill')?.focus();
}

function ask() {
  const stopped = state.batchers[$('kill-now').dataset.batcher];
  text($('sure-waiting'), stopped ? `${count(stopped.stats.waiting)} operations wait now.` : '');
  $('sure').showModal();
  $('kill-now').focus();
}

async function push({ target }) {
  const button = target.closest('button[data-do]');
  if (!button || button.disabled) return;
  if (button.id === 'kill-now') {
    $('sure').close();
    say('It is being stopped.');
  }
  const command = JSON.stringify({ do: button.dataset.do, batcher: button.dataset.batcher });
  const answer = await post('command', { 'x-roundlot-pass': pass() ?? '' }, command);
  if (answer.status === 401) lock(answer.say, 'bad');
  else say(answer.say, answer.status === 200 ? 'good' : 'bad');
}
