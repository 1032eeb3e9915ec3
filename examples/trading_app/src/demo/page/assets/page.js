// The live page: events come over one WebSocket and change `state`; each file draws its part of it; buttons go back as POSTs.
import * as account from './account.js';
import * as batcher from './batcher.js';
import * as connection from './connection.js';
import * as controls from './controls.js';
import * as errors from './errors.js';
import * as figures from './figures.js';
import * as orders from './orders.js';
import * as pairs from './pairs.js';
import * as portfolio from './portfolio.js';

for (const part of [figures, portfolio, account, errors, orders, pairs, controls]) part.start();
batcher.start(controls.refresh);
connection.start(() => {
  controls.refresh();
  figures.drawNow();
});
