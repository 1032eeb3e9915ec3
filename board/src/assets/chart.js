// A line chart with scales: a caption with the values of now, marks with units on both axes, and the values of any moment
// under the pointer, a finger or the arrow keys.
import { add, mark, text } from './dom.js';

const RECENT = 4; // places: an older value is not one of now
const SVG = 'http://www.w3.org/2000/svg';

export function shape(parent, name, kind) {
  const element = parent.appendChild(document.createElementNS(SVG, name));
  if (kind) element.setAttribute('class', kind);
  return element;
}

// The path of a line, from left to right in a square of 100, with gaps where there is no value. `ground` closes each part
// of it down to that height, as an area.
export function path(values, x, y, ground) {
  let drawn = '';
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] === null) continue;
    const from = i;
    const points = [];
    for (; i < values.length && values[i] !== null; i += 1) points.push(`${x(i).toFixed(2)} ${y(values[i]).toFixed(2)}`);
    // One value alone is a short dash.
    if (points.length === 1) points.push(`${(x(from) + 0.5).toFixed(2)} ${y(values[from]).toFixed(2)}`);
    drawn += `M${points.join('L')}`;
    if (ground !== undefined) drawn += `L${x(i - 1).toFixed(2)} ${ground}L${x(from).toFixed(2)} ${ground}Z`;
  }
  return drawn;
}

export class Chart {
  // `series` are { name, kind }, with the kind of line as in chart.css; `say` writes a value, `mark` one on the axis;
  // `scale` makes a scale from the least and the greatest value; `floor` is a value that the scale always has.
  constructor(figure, { name, key, series, say, mark: label = say, scale, floor, least = floor, base }) {
    Object.assign(this, { figure, name, series, say, label, scale, floor, least, base, values: [], at: null });
    figure.classList.add('chart');
    const caption = add(figure, 'figcaption');
    text(add(caption, 'span', 'title'), name);
    this.now = series.map(({ name: title, kind }) => {
      const item = add(caption, 'span', 'key');
      if (series.length > 1) add(item, 'i').dataset.line = kind;
      if (title) text(add(item, 'span'), title);
      return add(item, 'b');
    });
    this.plot = add(figure, 'div', 'plot');
    Object.assign(this.plot, { tabIndex: 0 });
    this.plot.setAttribute('role', 'img');
    this.svg = shape(this.plot, 'svg');
    this.svg.setAttribute('viewBox', '0 0 100 100');
    this.svg.setAttribute('preserveAspectRatio', 'none');
    if (key) this.plot.dataset.chart = key;
    this.grid = shape(this.svg, 'path', 'grid');
    this.area = shape(this.svg, 'path', 'area');
    this.lines = series.map(({ kind }) => shape(this.svg, 'path', `line ${kind}`));
    this.cursor = shape(this.svg, 'path', 'cursor');
    this.left = add(this.plot, 'div', 'marks-y');
    this.tip = add(this.plot, 'div', 'tip');
    this.tip.hidden = true;
    this.below = add(figure, 'div', 'marks-x');
    for (const marks of [this.left, this.below]) marks.setAttribute('aria-hidden', 'true');
    this.listen();
  }

  // `values` has an array for each series; `room` is how many would fill the width; `when` says the time of a place;
  // `times` are the marks below: [from 0 to 1, words].
  draw(values, { room = values[0].length, when, times }) {
    Object.assign(this, { values, room: Math.max(room, 2), when });
    const known = values.flat().filter((value) => value !== null);
    const low = Math.min(this.floor ?? Infinity, ...known);
    const high = Math.max(this.least ?? -Infinity, ...known);
    const scale = this.scale(...(known.length || Number.isFinite(low + high) ? [low, high] : [1, 10]));
    const y = (value) => 100 - scale.at(value) * 100;
    this.grid.setAttribute('d', scale.ticks.map((tick) => `M0 ${y(tick).toFixed(2)}H100`).join(''));
    const x = (i) => this.x(i);
    this.area.setAttribute('d', path(values[0], x, y, y(this.base ?? scale.low)));
    values.forEach((each, i) => this.lines[i].setAttribute('d', path(each, x, y)));
    this.place(this.left, scale.ticks.map((tick) => [1 - scale.at(tick), this.label(tick, scale)]), 'top');
    this.place(this.below, times, 'left');
    const latest = values.map((each) => this.say(each.slice(-RECENT).findLast((value) => value !== null)));
    latest.forEach((words, i) => text(this.now[i], words));
    const said = this.series.map(({ name }, i) => `${name ?? ''} ${latest[i]}`.trim()).join(', ');
    this.plot.setAttribute('aria-label', `${this.name}: now ${said}. The arrow keys read earlier values.`);
    this.point();
  }

  x(i) { return ((this.room - this.values[0].length + i) / (this.room - 1)) * 100; }

  place(parent, marks, side) {
    while (parent.children.length < marks.length) add(parent, 'span');
    while (parent.children.length > marks.length) parent.lastChild.remove();
    marks.forEach(([at, words], i) => {
      text(parent.children[i], words);
      parent.children[i].style[side] = `${(at * 100).toFixed(2)}%`;
      mark(parent.children[i], 'edge', at < 0.03 ? 'start' : at > 0.97 ? 'end' : '');
    });
  }

  listen() {
    const follow = ({ clientX }) => {
      const { left, width } = this.plot.getBoundingClientRect();
      this.at = (clientX - left) / width;
      this.point();
    };
    const leave = () => {
      this.at = null;
      this.tip.setAttribute('aria-live', 'off');
      this.point();
    };
    for (const kind of ['pointermove', 'pointerdown']) this.plot.addEventListener(kind, follow);
    for (const kind of ['pointerleave', 'pointercancel', 'blur']) this.plot.addEventListener(kind, leave);
    this.plot.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === 'Escape') leave();
      if (!by) return;
      event.preventDefault();
      // Only what the keys ask for is read out, not what the pointer happens to pass.
      this.tip.setAttribute('aria-live', 'polite');
      this.at = Math.min(1, Math.max(0, this.at === null ? 1 : this.at + by / (this.room - 1)));
      this.point();
    });
  }

  // Shows the values at the place that is pointed at.
  point() {
    const length = this.values[0]?.length ?? 0;
    this.tip.hidden = this.at === null || length === 0;
    this.cursor.setAttribute('class', this.tip.hidden ? 'cursor off' : 'cursor');
    if (this.tip.hidden) return;
    const place = Math.round(this.at * (this.room - 1)) - (this.room - length);
    const i = Math.min(length - 1, Math.max(0, place));
    this.cursor.setAttribute('d', `M${this.x(i)} 0V100`);
    const values = this.series.map(({ name }, n) => `${name ?? ''} ${this.say(this.values[n][i])}`.trim());
    text(this.tip, [this.when(i, length), ...values].join('\n'));
    mark(this.tip, 'side', this.x(i) > 50 ? 'left' : 'right');
    this.tip.style.left = `${this.x(i)}%`;
  }
}
