// A tab was opened: its name goes to the page's address, and charts that were drawn unseen take their width.
(name) => {
  const query = new URLSearchParams(window.location.search);
  if (name === 'start') query.delete('tab');
  else query.set('tab', name);
  const search = query.toString();
  window.history.replaceState(null, '', window.location.pathname + (search ? '?' + search : '') + (name === 'learn' ? window.location.hash : ''));
  window.setTimeout(() => window.dispatchEvent(new Event('resize')), 50);
  return [];
}
