// The JSON Schema of an activity as a flat list of properties, and which of them a place in a text is about.

/** Follows references and the alternative that is not null. */
function resolve(schema, root) {
  let now = schema;
  for (let n = 0; n < 8; n += 1) {
    const branch = now.$ref ? root.$defs?.[now.$ref.split('/').pop()]
      : now.anyOf ? now.anyOf.find((s) => s.type !== 'null') : null;
    if (!branch) return now;
    now = { ...branch, description: now.description ?? branch.description, default: now.default ?? branch.default };
  }
  return now;
}

/** Values that may stand there, each with what it means. */
function choices(schema) {
  const list = schema.oneOf ?? [];
  const named = list.flatMap((s) => (s.const !== undefined ? [{ value: s.const, text: s.description ?? '' }]
    : (s.enum ?? []).map((value) => ({ value, text: s.description ?? '' }))));
  return named.length ? named : (schema.enum ?? []).map((value) => ({ value, text: '' }));
}

/** Every property: {path: ['sink'], name, type, text, choices, isRequired, default}. */
export function properties(root) {
  const found = [];
  const walk = (given, path, depth) => {
    let schema = resolve(given, root);
    if (schema.type === 'array' || schema.items) schema = resolve(schema.items ?? {}, root);
    for (const [name, raw] of Object.entries(schema.properties ?? {})) {
      const value = resolve(raw, root);
      const items = value.items ? resolve(value.items, root) : null;
      found.push({
        path, name,
        type: items ? `list of ${items.properties ? 'objects' : items.type ?? 'values'}` : [value.type].flat().filter((t) => t && t !== 'null').join(' or ') || 'value',
        text: value.description ?? '', choices: choices(value), isRequired: (schema.required ?? []).includes(name),
        default: value.default !== null && typeof value.default !== 'object' ? value.default : undefined,
      });
      if (depth < 5 && (value.properties || items?.properties)) walk(value, [...path, name], depth + 1);
    }
  };
  walk(root, [], 0);
  return found;
}

const keyOf = (line) => /^(\s*(?:- +)*)["']?([A-Za-z0-9_$]+)["']?\s*:?/.exec(line);

/** Where the cursor is in a YAML or JSON text: the keys around it, and the word that is being written. */
export function place(text, at) {
  const lines = text.slice(0, at).split('\n');
  const rest = text.slice(at).split('\n')[0];
  const line = lines.at(-1) + rest;
  const inline = flow(lines.at(-1));
  const own = keyOf(line);
  const path = [];
  let depth = own ? own[1].length : lines.at(-1).length;
  for (let n = lines.length - 2; n >= 0 && depth > 0; n -= 1) {
    const above = keyOf(lines[n]);
    // A list's item stands as deep as what it is in.
    if (above && lines[n].includes(':') && above[1].length < depth && !/:\s*[^\s{[#]/.test(lines[n].replace(/[{[].*$/, ''))) {
      path.unshift(above[2]);
      depth = above[1].replace(/- +$/, '').length;
    }
  }
  if (inline) return { path: [...path, ...(own ? [own[2]] : [])], word: inline.word };
  return { path, word: own?.[2] ?? '' };
}

/** The word being written inside `{...}` on one line. */
function flow(before) {
  const open = before.lastIndexOf('{');
  if (open < 0 || before.indexOf('}', open) >= 0 || !before.slice(0, open).includes(':')) return null;
  const last = before.slice(open + 1).split(',').at(-1);
  return { word: /["']?([A-Za-z0-9_]*)/.exec(last.trim())?.[1] ?? '' };
}

/** Letters to change from one word to the other. */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

/** Properties of that place, those nearest to the word first. */
export function nearest(list, { path, word }) {
  const here = list.filter((p) => p.path.join() === path.join());
  const among = here.length ? here : list.filter((p) => p.path.at(-1) === path.at(-1));
  const pool = among.length ? among : list.filter((p) => p.path.length === 0);
  if (!word) return pool;
  const low = word.toLowerCase();
  const score = (p) => {
    const name = p.name.toLowerCase();
    if (name === low) return -2;
    if (name.startsWith(low)) return -1;
    return distance(low, name);
  };
  return [...pool].sort((a, b) => score(a) - score(b));
}
