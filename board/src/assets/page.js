// The live page: events come over one WebSocket and change `state`; each file draws its part of it; buttons go back as POSTs. Panels of
// the app are modules beside these, and start first.
import * as account from './account.js';
import * as batcher from './batcher.js';
import * as connection from './connection.js';
import * as controls from './controls.js';
import * as errors from './errors.js';
import * as figures from './figures.js';

const names = document.body.dataset.panels.split(' ').filter(Boolean);
const panels = await Promise.all(names.map((name) => import(`./${name}.js`)));

for (const part of [...panels, figures, account, errors, controls]) part.start();
batcher.start(controls.refresh);
connection.start(() => {
  controls.refresh();
  figures.drawNow();
});
