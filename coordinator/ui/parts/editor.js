// A plain text editor: numbers of lines, indents kept. Tab moves on, as everywhere on the page.

import { el, setText } from '../dom.js';

export function editor({ label, value, changed }) {
  const numbers = el('div', { class: 'editor-numbers', 'aria-hidden': 'true' });
  const area = el('textarea', { class: 'editor-text', 'aria-label': label, spellcheck: 'false', autocomplete: 'off', autocapitalize: 'off', wrap: 'off', rows: 24 });
  const element = el('div', { class: 'editor' }, numbers, area);
  area.value = value;

  function number() {
    const lines = area.value.split('\n').length;
    setText(numbers, Array.from({ length: lines }, (_, n) => n + 1).join('\n'));
    numbers.scrollTop = area.scrollTop;
  }
  const tell = () => changed(area.value, area.selectionStart);

  /** Writes as if typed, so that it can be undone. */
  function write(text) {
    area.focus();
    if (!document.execCommand('insertText', false, text)) {
      area.setRangeText(text, area.selectionStart, area.selectionEnd, 'end');
      area.dispatchEvent(new Event('input'));
    }
  }

  area.addEventListener('input', () => {
    number();
    tell();
  });
  area.addEventListener('scroll', () => {
    numbers.scrollTop = area.scrollTop;
  });
  for (const event of ['keyup', 'click', 'focus']) area.addEventListener(event, tell);
  area.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    const line = area.value.slice(0, area.selectionStart).split('\n').at(-1);
    const deeper = /[:{[]\s*$/.test(line) ? '  ' : '';
    event.preventDefault();
    write(`\n${/^\s*/.exec(line)[0]}${deeper}`);
  });
  number();

  return {
    element,
    value: () => area.value,
    set(text) {
      area.focus();
      area.select();
      write(text);
      area.setSelectionRange(0, 0);
      area.scrollTop = 0;
    },
    /** Puts a property where the cursor is: in place of the word that was begun. */
    insert(name) {
      const before = area.value.slice(0, area.selectionStart);
      const begun = /[A-Za-z0-9_]*$/.exec(before)[0].length;
      const after = area.value.slice(area.selectionStart);
      const rest = /^[A-Za-z0-9_]*/.exec(after)[0].length;
      const hasColon = /^\s*:/.test(after.slice(rest));
      area.setSelectionRange(before.length - begun, area.selectionStart + rest);
      write(hasColon ? name : `${name}: `);
    },
    /** Selects a line, from 1. */
    mark(line) {
      const lines = area.value.split('\n');
      const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
      area.focus();
      area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
      area.scrollTop = Math.max(0, (line - 4) * parseFloat(getComputedStyle(area).lineHeight));
    },
  };
}
