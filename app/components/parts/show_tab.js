// A tab was opened: its name goes to the page's address, and charts that were drawn unseen take their width.
// While the page opens, its address is what the visitor asked for and stays: Gradio selects the first tab on its own.
(name) => {
  window.setTimeout(() => window.dispatchEvent(new Event('resize')), 50);
  if (!('opened' in document.documentElement.dataset)) return [];
  const query = new URLSearchParams(window.location.search);
  if (name === 'start') query.delete('tab');
  else query.set('tab', name);
  const search = query.toString();
  window.history.replaceState(null, '', window.location.pathname + (search ? '?' + search : '') + (name === 'learn' ? window.location.hash : ''));
  return [];
}
