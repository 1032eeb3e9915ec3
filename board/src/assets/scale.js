// The scales of the charts: from the least and the greatest value to an axis with round marks.

const STEPS = [1, 2, 2.5, 5, 10];

// An axis with a few equal steps from `low` to `high` or a little beyond.
export function linear(low, high, marks) {
  const raw = Math.max(high - low, 1e-9) / marks;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = STEPS.find((step) => step * size >= raw * 0.999) * size;
  const [from, to] = [Math.floor(low / step + 1e-6), Math.ceil(high / step - 1e-6)];
  const ticks = [];
  for (let i = from; i <= Math.max(to, from + 1); i += 1) ticks.push(i * step);
  const [least, most] = [ticks[0], ticks.at(-1)];
  return { low: least, high: most, step, ticks, at: (value) => (value - least) / (most - least) };
}

// The round value at a place of an axis that has two of them in each power of ten: 1, 3, 10, 30, ...
const half = (i) => (i % 2 === 0 ? 1 : 3) * 10 ** Math.floor(i / 2);

// A logarithmic axis of three marks or more, for values above zero. A long one has a mark only at each power of ten.
export function decades(low, high) {
  let from = Math.floor(Math.log10(low) * 2);
  while (half(from) > low) from -= 1;
  while (half(from + 1) <= low) from += 1;
  let to = from + 1;
  while (half(to) < high) to += 1;
  if (to < from + 2) from -= 1;
  const places = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const ticks = places.filter((i) => places.length <= 5 || i % 2 === 0).map(half);
  const [least, most] = [half(from), half(to)];
  const at = (value) => Math.log(Math.max(value, least) / least) / Math.log(most / least);
  return { low: least, high: most, ticks, at };
}

const CLOCK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

// Round times from 0 to the last second, five at most.
export function clocks(last) {
  const step = CLOCK_STEPS.find((step) => last / step < 5) ?? Math.ceil(last / 86_400 / 5) * 86_400;
  const times = [];
  for (let seconds = 0; seconds <= last; seconds += step) times.push(seconds);
  return times;
}

// The scale of the moment, which is kept as long as it fits, so that an axis doesn't jump to and fro.
export function steady(make) {
  let kept = null;
  return (low, high) => {
    const made = make(low, high);
    const fits = kept && kept.low <= low && high <= kept.high;
    if (!fits || kept.at(high) - kept.at(low) < 0.3 * (made.at(high) - made.at(low))) kept = made;
    return kept;
  };
}
