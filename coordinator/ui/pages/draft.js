// The text in the submit form, kept while the tab lives: a sign-in in between must not lose it.

const KEY = 'ferry.draft';

export function keepDraft(text) {
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // Storage may be forbidden: the text lives as long as the page.
  }
}

export function draft() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
