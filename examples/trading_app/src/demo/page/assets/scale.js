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

// An axis with a mark at each power of ten, for values above zero.
export function decades(low, high) {
  const from = Math.floor(Math.log10(low) + 1e-6);
  const to = Math.max(Math.ceil(Math.log10(high) - 1e-6), from + 2);
  const ticks = [];
  for (let i = from; i <= to; i += 1) ticks.push(10 ** i);
  const at = (value) => (Math.log10(Math.max(value, ticks[0])) - from) / (to - from);
  return { low: ticks[0], high: ticks.at(-1), ticks, at };
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
