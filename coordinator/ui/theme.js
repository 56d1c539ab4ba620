// Runs before the first paint, so that the page never flashes in the wrong colours. Not a module: those wait.
try {
  const kept = localStorage.getItem('ferry.theme');
  if (kept === 'light' || kept === 'dark') document.documentElement.dataset.theme = kept;
} catch {
  // Storage may be forbidden: the system's choice stands.
}
