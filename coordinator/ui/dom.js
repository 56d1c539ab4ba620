// Builds elements. Data goes into the page as text nodes and attributes only; nothing here or elsewhere parses HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else if (name === 'style') {
      for (const [property, setting] of Object.entries(value)) node.style.setProperty(property, setting);
    } else if (name === 'data') {
      Object.assign(node.dataset, value);
    } else {
      node.setAttribute(name, value === true ? '' : String(value));
    }
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (child === undefined || child === null || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else node.append(child instanceof Node ? child : String(child));
  }
}

/** An element: `el('p', {class: 'note'}, 'text', otherElement)`. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Writes a text only where it changes, so that selections and screen readers are left in peace. */
export function setText(node, text) {
  const wanted = text ?? '';
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Replaces all children. */
export function put(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

/** Text in which `code` between backticks is shown as code. */
export function prose(text) {
  return String(text).split('`').map((part, n) => (n % 2 ? el('code', null, part) : part));
}

/** Calls `change` at most once every `wait` ms, the last call always. */
export function lately(wait, change) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => change(...values), wait);
  };
}
