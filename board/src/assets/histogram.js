// The histogram of the times in the buffer, and their percentiles.
import { shape } from './chart.js';
import { add, text } from './dom.js';
import { count, round, time } from './format.js';

const BUCKETS = 32;
const FIRST_EDGE_MS = 0.25; // each bucket reaches 2^(1/2) times as far as the one before
const MARKS = [1, 10, 100, 1000];

const edge = (i) => FIRST_EDGE_MS * 2 ** (i / 2);

// The times within which half of all operations and 99 % of them were done, in milliseconds; null if there were none.
// Everything on the page that shows a percentile of the last minute takes it from here.
export function percentiles({ latency }) {
  if (!latency || latency.count === 0) return null;
  return { p50: latency.p50_seconds * 1000, p99: latency.p99_seconds * 1000 };
}

export class Histogram {
  constructor(figure) {
    figure.classList.add('chart', 'histogram');
    const caption = add(figure, 'figcaption');
    text(add(caption, 'span', 'title'), 'latencies');
    this.said = add(caption, 'b');
    const plot = add(figure, 'div', 'plot');
    Object.assign(plot, { tabIndex: 0 });
    plot.dataset.chart = 'times';
    plot.setAttribute('role', 'img');
    const svg = shape(plot, 'svg');
    svg.setAttribute('viewBox', `0 0 ${BUCKETS} 100`);
    svg.setAttribute('preserveAspectRatio', 'none');
    this.bars = Array.from({ length: BUCKETS }, (_, i) => {
      const bar = shape(svg, 'rect');
      bar.setAttribute('x', i + 0.1);
      bar.setAttribute('width', 0.8);
      return bar;
    });
    const left = add(plot, 'div', 'marks-y');
    this.top = add(left, 'span');
    this.top.style.top = '0%';
    const zero = add(left, 'span');
    zero.style.top = '100%';
    text(zero, '0');
    const below = add(figure, 'div', 'marks-x');
    for (const ms of MARKS) {
      const place = add(below, 'span');
      text(place, round(ms));
      place.style.left = `${((2 * Math.log2(ms / FIRST_EDGE_MS) + 1) / BUCKETS) * 100}%`;
    }
    this.plot = plot;
    this.counts = [];
    this.at = null;
    const follow = ({ clientX }) => {
      const { left: from, width } = plot.getBoundingClientRect();
      this.point(Math.min(BUCKETS - 1, Math.max(0, Math.floor(((clientX - from) / width) * BUCKETS))));
    };
    for (const kind of ['pointermove', 'pointerdown']) plot.addEventListener(kind, follow);
    for (const kind of ['pointerleave', 'blur']) plot.addEventListener(kind, () => this.point(null));
    plot.addEventListener('keydown', ({ key }) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (by) this.point(Math.min(BUCKETS - 1, Math.max(0, (this.at ?? BUCKETS / 2) + by)));
    });
  }

  draw(batcher) {
    this.counts = batcher.times;
    this.known = percentiles(batcher);
    const most = Math.max(1, ...batcher.times);
    text(this.top, count(most));
    batcher.times.forEach((n, i) => {
      const height = n === 0 ? 0 : Math.max(1.5, (n / most) * 100);
      this.bars[i].setAttribute('y', 100 - height);
      this.bars[i].setAttribute('height', height);
    });
    this.point(this.at);
  }

  // Says how many operations the bucket at the pointer has, or else the percentiles.
  point(at) {
    this.at = at;
    const { known } = this;
    let words = known ? `half in ${time(known.p50)}, 99 % in ${time(known.p99)}` : 'none';
    if (at !== null) words = `${time(at === 0 ? 0 : edge(at - 1))} to ${time(edge(at))}: ${count(this.counts[at] ?? 0)}`;
    text(this.said, words);
    this.bars.forEach((bar, i) => bar.setAttribute('class', i === at ? 'pointed' : ''));
    this.plot.setAttribute('aria-label', `histogram of the time in the buffer; ${words}`);
  }
}
