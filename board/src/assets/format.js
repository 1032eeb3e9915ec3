// Numbers as people read them. A value that is not known is a dash.

const DASH = '–';
const unknown = (x) => x === null || x === undefined || Number.isNaN(x);

export function count(n) { return unknown(n) ? DASH : Math.round(n).toLocaleString('en-US'); }

// A value on an axis: 2.5, 950, 12,400, 1.2 M.
export function short(n) {
  if (unknown(n)) return DASH;
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)} M`;
  return Number.isInteger(n) ? count(n) : n.toFixed(1);
}

export function decimal(x) { return unknown(x) ? DASH : x >= 100 ? count(x) : x.toFixed(1); }

export function percent(part) { return unknown(part) ? DASH : `${(part * 100).toFixed(part > 0 && part < 0.1 ? 1 : 0)} %`; }

export function time(ms) {
  if (unknown(ms)) return DASH;
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
}

// A time on an axis, where it is a round one.
export function round(ms) { return time(ms).replace('.0 ', ' '); }

export function clock(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map((n) => String(Math.floor(n)).padStart(2, '0'));
  return h === '00' ? `${m}:${s}` : `${h}:${m}:${s}`;
}

export function ago(seconds) {
  if (seconds < 1) return 'now';
  return seconds < 120 ? `${Math.round(seconds)} s ago` : `${clock(seconds)} ago`;
}

export function bytes(n) { return n < 1e6 ? `${count(n / 1e3)} kB` : `${(n / 1e6).toFixed(1)} MB`; }

// A gain or loss: the sign is always there, and as wide as a digit.
export function signed(x, places) {
  const text = Math.abs(x).toLocaleString('en-US', { minimumFractionDigits: places, maximumFractionDigits: places });
  return `${/[1-9]/.test(text) ? (x < 0 ? '−' : '+') : ''}${text}`;
}

// The same for an amount that the app has formatted: "-1,234.50".
export function gain(text) {
  if (text.startsWith('-')) return `−${text.slice(1)}`;
  return /[1-9]/.test(text) ? `+${text}` : text;
}

// The direction of such an amount, for its color.
export function way(text) { return text.startsWith('-') ? 'down' : /[1-9]/.test(text) ? 'up' : 'same'; }
