// Short names for what the other files do with the document. Nothing is written that is there already.

export const $ = (id) => document.getElementById(id);

export const add = (parent, name, kind) => {
  const element = parent.appendChild(document.createElement(name));
  if (kind) element.className = kind;
  return element;
};

export const stamp = (template) => $(template).content.firstElementChild.cloneNode(true);

export function text(element, words) { if (element.textContent !== words) element.textContent = words; }

export function mark(element, name, value) { if (element.dataset[name] !== value) element.dataset[name] = value; }

// Makes `parent` have as many children as there are rows, each a copy of the template, and fills each in.
export function fill(parent, template, rows, write) {
  while (parent.children.length < rows.length) parent.appendChild(stamp(template));
  while (parent.children.length > rows.length) parent.lastElementChild.remove();
  rows.forEach((row, i) => write(parent.children[i], row));
}
